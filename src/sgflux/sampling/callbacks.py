"""Callbacks at the end of a step, in diffusers' form.

Shapes: B pictures, latents (B, c, h, w) or packed (B, S, c).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.base import Network
from sgflux.errors import SgfluxError

STEP_TENSORS = ("latents", "denoised")
"""Tensors that a callback may ask for: the latents after the step, and the picture it foresees."""

StepCallback = Callable[[Any, int, Tensor, dict[str, Tensor]], Any]
"""diffusers' ``callback_on_step_end``: pipeline, step, timestep, tensors -> changed tensors."""

AfterStep = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Step, sigma, denoised latents and latents (B, c, h, w) -> the latents to go on with."""


def after_step(
    pipeline: Any, network: Network, callback: StepCallback | None, names: Sequence[str]
) -> AfterStep | None:
    """Return the call of a callback on latents that are not packed; None without a callback.

    Args:
        pipeline: Pipeline that the callback is given.
        network: Network that packs latents.
        callback: The callback.
        names: Tensors that it is given, among :data:`STEP_TENSORS`.

    Raises:
        SgfluxError: if a name is unknown.
    """
    unknown = sorted(set(names) - set(STEP_TENSORS))
    if unknown:
        raise SgfluxError(
            f"callback_on_step_end_tensor_inputs must be among {list(STEP_TENSORS)}, got {unknown}"
        )
    if callback is None:
        return None

    def call(number: int, sigma: Tensor, denoised: Tensor, latents: Tensor) -> Tensor:
        tensors = {"latents": latents, "denoised": denoised.to(latents.dtype)}
        given = {name: network.pack(tensors[name]) for name in names}
        # What the callback computes, a preview for example, has a precision of its own.
        with torch.autocast(latents.device.type, enabled=False):
            returned = callback(pipeline, number, 1000 * sigma, dict(given)) or {}
        changed = returned.get("latents")
        if changed is None or changed is given.get("latents"):
            return latents
        return network.unpack(changed.to(latents), *latents.shape[2:])

    return call
