"""Which blocks of a base are adapted, and which are looked into."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sgflux.errors import SgfluxError


def default_block_range(num_layers: int) -> tuple[int, int]:
    """The middle third of the blocks that can take a graph, (start, end).

    That is 7 to 13 of FLUX.1's 19 double blocks, scaled.
    """
    start = round(num_layers * 7 / 19)
    return start, max(start + 1, math.ceil(num_layers * 13 / 19))


def validate_block_range(start: int, end: int, num_layers: int) -> None:
    """Check that ``start <= block < end`` is a non-empty range of the model's double blocks.

    Raises:
        SgfluxError: if it is not.
    """
    if not 0 <= start < end <= num_layers:
        raise SgfluxError(
            f"block range {start}..{end} does not fit the model: expected "
            f"0 <= block_start < block_end <= {num_layers}, its number of double blocks"
        )


def default_concept_blocks(num_layers: int) -> tuple[int, ...]:
    """The later half of the blocks, as in Helbling et al. 2025: 9 to 18 of FLUX.1's 19."""
    return tuple(range(num_layers // 2, num_layers))


def check_concept_blocks(blocks: Sequence[int], *, num_layers: int) -> None:
    """Check that ``blocks`` are different double blocks of a model, at least one.

    Raises:
        SgfluxError: if they are not.
    """
    if not blocks or len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(num_layers)):
        raise SgfluxError(
            f"blocks of concept maps must be different double blocks between 0 and "
            f"{num_layers - 1}, at least one, got {list(blocks)}"
        )
