"""The most memory that a training needed at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that tensors had at once on one device, which may not be torch's current one.

    Attributes:
        device: Device that is watched; only CUDA counts.
    """

    device: torch.device

    def begin(self) -> None:
        """Forget what came before, such as the encoders."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def figures(self) -> dict[str, float]:
        """Return the peak since the beginning in GiB; nothing where it is not known."""
        if self.device.type != "cuda":
            return {}
        return {"peak_memory_gib": torch.cuda.max_memory_allocated(self.device) / 2**30}
