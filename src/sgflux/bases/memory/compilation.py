"""How many variants of a block torch.compile may make before it goes on uncompiled."""

from __future__ import annotations

import torch
import torch._dynamo.config  # torch.compiler.config has this setting in newer releases only

VARIANTS = 64
"""A block's variants: sizes of batches, numbers of graph tokens, with a gradient and without."""


def allow_variants() -> None:
    """Let every function have up to :data:`VARIANTS` compiled variants, in the whole process.

    torch's own limit is 8: the ninth one and all further calls run uncompiled, which one line of
    warning says.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
