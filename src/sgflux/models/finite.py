"""Weights that are numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.errors import SgfluxError


def check_finite(state: Mapping[str, Tensor], *, where: str | os.PathLike[str]) -> None:
    """Refuse weights that are no numbers.

    Raises:
        SgfluxError: naming the first such weight.
    """
    for name, value in state.items():
        finite = torch.isfinite(value)
        if not bool(finite.all()):
            count = int((~finite).sum())
            raise SgfluxError(
                f"{where}: {name} has {count} of {value.numel()} values that are not finite (NaN "
                "or infinite); a run that diverged or a damaged file leaves such weights, take an "
                "earlier checkpoint"
            )
