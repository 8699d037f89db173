"""How strongly an adapter's LoRA acts: scaled, merged into the base's weights, or taken out again.

Switching the whole adapter off is :func:`sgflux.models.adapter.adapter_disabled`. None of these
touches what the graph does through the conditioner's gates.
"""

from __future__ import annotations

import math

from sgflux.errors import SgfluxError
from sgflux.models.adapter import LORA_NAME, GraphLoraModel


def scale_lora(model: GraphLoraModel, factor: float) -> None:
    """Let the LoRA act with ``factor`` times its trained strength; 1 is as trained, 0 not at all.

    Raises:
        SgfluxError: if the factor is not finite, or the LoRA is merged.
    """
    if not math.isfinite(factor):
        raise SgfluxError(f"the LoRA's factor must be a finite number, got {factor}")
    _expect_merged(model, expected=False)
    for layer in model.lora_layers().values():
        layer.set_scale(LORA_NAME, factor)


def merge_lora(model: GraphLoraModel) -> None:
    """Add the LoRA to the base's weights: the same velocity up to rounding, without its two steps.

    Raises:
        SgfluxError: if it is merged already, or the base is quantised and cannot take it.
    """
    _expect_merged(model, expected=False)
    try:
        for layer in model.lora_layers().values():
            layer.merge(adapter_names=[LORA_NAME])
    except (RuntimeError, TypeError) as error:
        raise SgfluxError(
            f"the LoRA cannot be merged into this base ({error}); load the base unquantised"
        ) from error


def unmerge_lora(model: GraphLoraModel) -> None:
    """Undo :func:`merge_lora`; the base's weights are back up to rounding.

    Raises:
        SgfluxError: if it is not merged.
    """
    _expect_merged(model, expected=True)
    for layer in model.lora_layers().values():
        layer.unmerge()


def _expect_merged(model: GraphLoraModel, *, expected: bool) -> None:
    merged = any(layer.merged for layer in model.lora_layers().values())
    if merged != expected:
        raise SgfluxError("the LoRA is merged already" if merged else "the LoRA is not merged")
