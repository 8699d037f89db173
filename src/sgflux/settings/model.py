"""What commands have in common about a model: the base that is meant, and seeds."""

from __future__ import annotations

from sgflux.errors import SgfluxError

FLUX_SCHNELL = "black-forest-labs/FLUX.1-schnell"
"""The base that adapters are for unless another one is named, as its id on the hub."""

MIN_SEED, MAX_SEED = -(2**63), 2**64 - 1
"""What a generator of torch takes for a seed."""


def expect_seeds(first: int, count: int) -> None:
    """Check that ``count`` seeds from ``first`` on are ones that torch takes.

    Raises:
        SgfluxError: naming the first seed that is not, and the range.
    """
    for seed in (first, first + count - 1):
        if not MIN_SEED <= seed <= MAX_SEED:
            more = f" (the seed of picture {count} from {first} on)" if seed != first else ""
            raise SgfluxError(
                f"a seed must lie between -2^63 and 2^64 - 1 = {MAX_SEED}, got {seed}{more}"
            )
