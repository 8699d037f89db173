"""What the adapter changes in the base model, and how large it is."""

from __future__ import annotations

from typing import Literal

from sgflux.settings.checks import ConfigError, Count, Positive, settings

GraphMode = Literal["token", "temb"]
LoraTargets = Literal["all", "image", "all+ff", "all+ff+single"]
LoraFormat = Literal["diffusers", "kohya", "comfyui"]


@settings
class AdapterSettings:
    """What the adapter changes in the base model, and how large it is."""

    graph_mode: GraphMode = "token"
    """Way in which the graph enters the model: 'token' adds tokens to the text stream, and 'temb'
    adds to the timestep embedding."""
    block_start: int | None = None
    """Index of the first double block that the adapter changes. By default the middle third is
    changed (7 to 12 of FLUX's 19)."""
    block_end: int | None = None
    """Index after the last double block that the adapter changes. By default the middle third is
    changed (7 to 12 of FLUX's 19)."""
    lora_rank: Count = 16
    """Rank of the LoRA matrices."""
    lora_alpha: Positive = 16.0
    """Alpha of the LoRA, which is scaled by alpha / --lora-rank."""
    lora_targets: LoraTargets = "all"
    """Layers that carry LoRA: 'all' are the attention projections of both streams in the chosen
    blocks, and 'image' are those of the image stream alone. 'all+ff' adds the image stream's
    feed-forward networks to 'all', and 'all+ff+single' also adds all single blocks."""

    def __post_init__(self) -> None:
        """Check that the blocks are a range."""
        start, end = self.block_start, self.block_end
        if (start is None) != (end is None):
            raise ConfigError("block_start and block_end belong together: give both or neither")
        if start is not None and end is not None and not 0 <= start < end:
            raise ConfigError(
                f"block_start and block_end must satisfy 0 <= block_start < block_end, "
                f"got {start} and {end}"
            )
