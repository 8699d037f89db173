"""The families of base models: one line for each."""

from __future__ import annotations

from typing import Any

from sgflux.bases.base import Family, Network
from sgflux.bases.flux1.family import Flux1

FAMILIES: dict[str, Family] = {"flux1": Flux1()}
"""Name of a family, as bundles and checkpoints have it -> the family."""


def network_of(transformer: Any) -> Network:
    """The network of a loaded transformer, whichever family it is of.

    Raises:
        TypeError: if it is of none.
    """
    for family in FAMILIES.values():
        if isinstance(transformer, family.transformer):
            return family.network(transformer)
    raise TypeError(f"{type(transformer).__name__} is no transformer of {', '.join(FAMILIES)}")
