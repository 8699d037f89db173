"""torch.compile gives up after 8 variants of a function, unless it is told otherwise.

If one of these failed, a compiled run would silently fall back to eager code after eight shapes
and lose its speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo.config

from sgflux.bases.flux1.network import FluxNetwork
from sgflux.bases.memory.compilation import VARIANTS, allow_variants
from tests.helpers.flux import make_transformer


@pytest.fixture(autouse=True)
def torchs_own_limit() -> Iterator[None]:
    with torch._dynamo.config.patch(recompile_limit=8):
        yield
    torch._dynamo.reset()


def test_the_limit_is_raised_and_never_lowered() -> None:
    allow_variants()
    assert torch._dynamo.config.recompile_limit == VARIANTS
    torch._dynamo.config.recompile_limit = 10 * VARIANTS
    allow_variants()
    assert torch._dynamo.config.recompile_limit == 10 * VARIANTS


@pytest.mark.parametrize(("allowed", "expected"), [(False, 8), (True, 12)])
def test_a_twelfth_variant_is_compiled_too(allowed: bool, expected: int) -> None:
    """Counted by how often the backend is asked."""
    torch._dynamo.reset()
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    def block(x: torch.Tensor, number: int) -> torch.Tensor:
        return x + number * 2.5

    if allowed:
        allow_variants()
    run = torch.compile(block, backend=backend, dynamic=False)
    for number in range(12):
        run(torch.zeros(2), number)
    assert len(compiled) == expected


def test_compiling_the_blocks_raises_it() -> None:
    FluxNetwork(make_transformer(num_layers=1)).compile(backend="eager")
    assert torch._dynamo.config.recompile_limit == VARIANTS
