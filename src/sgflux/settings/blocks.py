"""How the blocks of the transformer are computed in training."""

from __future__ import annotations

from sgflux.settings.checks import Count, expect_defaults, settings


@settings
class BlockSettings:
    """How the blocks of the transformer are computed in training."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which saves memory and takes about a quarter more
    time."""
    checkpoint_every: Count = 1
    """With --gradient-checkpointing: recompute only every n-th block; 1 recomputes all."""
    compile: bool = False
    """Compile the transformer's repeated blocks, which takes minutes at the start and makes steps
    faster."""
    deterministic: bool = False
    """Use only kernels with the same result in every run, and stop with an error where there is
    none. On a GPU this is slower and not measured yet; on a CPU the results stay the same."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if not self.gradient_checkpointing:
            expect_defaults(self, "without gradient_checkpointing", "checkpoint_every")

    @property
    def recompute_every(self) -> int:
        """Which blocks are recomputed in the backward pass: every n-th; 0: none."""
        return self.checkpoint_every if self.gradient_checkpointing else 0
