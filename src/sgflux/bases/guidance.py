"""The guidance scale that a guidance-distilled model is told."""

from __future__ import annotations

import math

from sgflux.bases.base import Network
from sgflux.errors import SgfluxError


def guidance_told(
    guidance: float | None, *, network: Network, default: float, model: str
) -> float | None:
    """Return the guidance scale that a model is told; None for one that takes none.

    Args:
        guidance: Guidance scale that the user gives; None: ``default``.
        network: Network of the model, which knows whether it is guidance-distilled.
        default: Guidance scale of a guidance-distilled model where the user gives none.
        model: Name of the model, for the message.

    Raises:
        SgfluxError: if the guidance scale has no effect or is not finite.
    """
    if not network.is_guided:
        if guidance is not None:
            raise SgfluxError(
                f"guidance ({guidance}) has no effect: {model!r} is not guidance-distilled"
            )
        return None
    value = default if guidance is None else guidance
    if not math.isfinite(value):
        raise SgfluxError(f"guidance must be a finite number, got {value}")
    return value
