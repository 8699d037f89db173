"""Device and precision of the computation."""

from __future__ import annotations

from typing import Annotated, Literal

from sgflux.settings.checks import settings
from sgflux.settings.flat import Flag

Dtype = Literal["fp32", "bf16"]

Device = Annotated[
    str,
    Flag(
        help="Device of the computation: 'cpu', 'cuda', 'cuda:1', 'mps', or 'auto', which takes "
        "a GPU if there is one."
    ),
]


@settings
class ComputeSettings:
    """Device and precision of a training."""

    device: Device = "auto"
    dtype: Dtype = "bf16"
    """Precision of the frozen weights and of the arithmetic. Trained weights stay in float32."""


@settings
class SamplingCompute:
    """Device and precision of a model that is not trained."""

    device: Device = "auto"
    dtype: Literal["auto", Dtype] = "auto"
    """Precision of the weights and of the arithmetic. 'auto' is bf16 on an accelerator and fp32 on
    the CPU."""
