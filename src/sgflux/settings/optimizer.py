"""The length of the run, its batches and its learning rates."""

from __future__ import annotations

from sgflux.settings.checks import (
    ConfigError,
    Count,
    NotNegative,
    PartialShare,
    Positive,
    Share,
    Whole,
    settings,
)

DEFAULT_EPOCHS = 20


@settings
class OptimizerSettings:
    """The length of the run, its batches and its learning rates."""

    epochs: Count | None = None
    """Number of passes over the training data. By default it is 20, unless --max-steps is given."""
    max_steps: Count | None = None
    """Number of optimizer steps, given instead of --epochs."""
    batch_size: Count = 2
    """Number of examples in one forward pass of one process."""
    statement_power: NotNegative = 0.0
    """Power of the number of a graph's statements by which its example is shown more often. At 1 a
    graph of four statements is shown four times as often as one of one statement, and at 0 all are
    shown equally often. At a large power, only the graphs of the most statements are shown."""
    gradient_accumulation_steps: Count = 1
    """Number of forward passes in an optimizer step."""
    lr: Positive = 1e-4
    """Peak learning rate of AdamW."""
    gate_lr_scale: Positive = 1.0
    """Learning rate of the gates that let the graph in, as a multiple of --lr."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay of matrices; gates, norms and biases have none."""
    warmup_steps: Whole | None = None
    """Number of steps in which the learning rate rises linearly. By default it is 5 % of all steps,
    at most 100."""
    lr_floor: Share = 0.1
    """Learning rate at the end of the cosine decay, as a share of --lr."""
    max_grad_norm: NotNegative = 1.0
    """Norm to which larger gradients are scaled down; 0 leaves all gradients as they are."""
    ema_decay: PartialShare = 0.999
    """Decay of the exponential moving average of the trained weights, which has a warm-up; 0
    switches the average off."""

    def __post_init__(self) -> None:
        """Check the length of the run and of its warm-up."""
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
