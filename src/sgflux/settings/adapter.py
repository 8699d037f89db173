"""What the adapter changes in the base model, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgflux.settings.checks import ConfigError, expect, expect_least, typed_fields

GraphMode = Literal["token", "temb"]


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What the adapter changes in the base model, and how large it is."""

    graph_mode: GraphMode = "token"
    """How the graph enters: as tokens of the text stream, or added to the timestep embedding."""
    block_start: int | None = None
    """First double block that the adapter changes; None: the middle third (7 of FLUX's 19)."""
    block_end: int | None = None
    """One past the last double block that the adapter changes; None: the middle third (13 of FLUX's
    19)."""
    lora_rank: int = 16
    """Rank of the LoRA matrices."""
    lora_alpha: float = 16.0
    """LoRA's scale is lora_alpha / lora_rank."""
    lora_targets: Literal["all", "image"] = "all"
    """LoRA on both streams' attention projections, or on the image stream's alone."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "lora_rank")
        expect(self.lora_alpha > 0, "lora_alpha", self.lora_alpha, "be greater than 0")
        start, end = self.block_start, self.block_end
        if (start is None) != (end is None):
            raise ConfigError("block_start and block_end belong together: give both or neither")
        if start is not None and end is not None and not 0 <= start < end:
            raise ConfigError(
                f"block_start and block_end must satisfy 0 <= block_start < block_end, "
                f"got {start} and {end}"
            )
