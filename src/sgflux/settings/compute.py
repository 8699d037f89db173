"""Device, precision and kernels of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgflux.settings.checks import typed_fields


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """Device, precision and kernels of the training."""

    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'; 'auto' takes an accelerator if there is one."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Precision of the frozen weights and of the arithmetic; trained weights stay in float32."""
    deterministic: bool = False
    """Use only kernels with the same result in every run, or stop with an error where there is
    none. On a GPU this is slower and not measured yet; on a CPU the results stay the same."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
