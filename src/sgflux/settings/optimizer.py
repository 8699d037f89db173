"""The length of the run, its batches and its learning rates."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import ConfigError, expect, expect_least, typed_fields

DEFAULT_EPOCHS = 20


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The length of the run, its batches and its learning rates."""

    epochs: int | None = None
    """Number of passes over the training data. By default it is 20, unless --max-steps is given."""
    max_steps: int | None = None
    """Number of optimizer steps, given instead of --epochs."""
    batch_size: int = 2
    """Number of examples in one forward pass of one process."""
    gradient_accumulation_steps: int = 1
    """Number of forward passes in an optimizer step."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    gate_lr_scale: float = 1.0
    """Learning rate of the gates that let the graph in, as a multiple of --lr."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; gates, norms and biases have none."""
    warmup_steps: int | None = None
    """Number of steps in which the learning rate rises linearly. By default it is 5 % of all steps,
    at most 100."""
    lr_floor: float = 0.1
    """Learning rate at the end of the cosine decay, as a share of --lr."""
    max_grad_norm: float = 1.0
    """Norm to which larger gradients are scaled down; 0 leaves all gradients as they are."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the trained weights, which has a warm-up; 0
    switches the average off."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        positive = ("batch_size", "gradient_accumulation_steps", "epochs", "max_steps")
        expect_least(self, 1, *positive)
        expect_least(self, 0, "warmup_steps", "weight_decay", "max_grad_norm")
        for name in ("lr", "gate_lr_scale"):
            expect(getattr(self, name) > 0, name, getattr(self, name), "be greater than 0")
        good = 0 <= self.ema_decay < 1
        expect(good, "ema_decay", self.ema_decay, "be at least 0 and less than 1")
        expect(0 <= self.lr_floor <= 1, "lr_floor", self.lr_floor, "lie between 0 and 1")
        steps, warmup = self.max_steps, self.warmup_steps
        if self.epochs is not None and steps is not None:
            raise ConfigError(
                f"epochs ({self.epochs}) and max_steps ({steps}) both set the length of the run; "
                "give one of them"
            )
        if steps is not None and warmup is not None and warmup >= steps:
            raise ConfigError(
                f"warmup_steps ({warmup}) must be less than max_steps ({steps}): the learning "
                "rate would never reach lr"
            )
