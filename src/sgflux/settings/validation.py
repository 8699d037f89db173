"""How often the adapter is validated, on what, and which one is kept."""

from __future__ import annotations

from typing import Literal

from sgflux.settings.checks import (
    ConfigError,
    Count,
    NotNegative,
    Whole,
    expect_defaults,
    settings,
)

SelectBy = Literal["val_loss", "ranking_accuracy", "obeyed", "last"]


@settings
class ValidationSettings:
    """How often the adapter is validated, on what, and which one is kept."""

    val_every: Whole = 250
    """Number of steps between two validations; 0 validates only after the last step."""
    val_examples: Whole = 64
    """Number of validation examples that are used, spread evenly over the file; 0 means all."""
    val_sigmas: Count = 4
    """Number of noise levels at which each validation example is measured, spread evenly between
    --t-min and --t-max."""
    select_by: SelectBy | None = None
    """Criterion by which the run chooses its final adapter: the lowest validation loss, the highest
    ranking accuracy, the largest share of statements that hold in the pictures of --sample-graphs
    ('obeyed'), or the last step. By default it is 'val_loss', but 'last' with --lambda-words,
    whose guided teacher raises the validation loss."""
    early_stopping_patience: Whole = 0
    """Number of validations without a better figure of --select-by after which the run ends; 0
    never ends it early."""
    early_stopping_min_delta: NotNegative = 0.0
    """With --early-stopping-patience: a figure is better only if it differs by more than this."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if not self.early_stopping_patience:
            expect_defaults(self, "without early_stopping_patience", "early_stopping_min_delta")
        elif self.val_every == 0:
            raise ConfigError(
                "early_stopping_patience has no effect with val_every 0: the only validation is "
                "after the last step"
            )
