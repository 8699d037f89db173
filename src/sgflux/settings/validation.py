"""How often the adapter is validated, on what, and which one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgflux.settings.checks import ConfigError, expect, expect_defaults, expect_least, typed_fields

SelectBy = Literal["val_loss", "ranking_accuracy", "obeyed", "last"]


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """How often the adapter is validated, on what, and which one is kept."""

    val_every: int = 250
    """Number of steps between two validations; 0 validates only after the last step."""
    val_examples: int = 64
    """Number of validation examples that are used, spread evenly over the file; 0 means all."""
    val_sigmas: int = 4
    """Number of noise levels at which each validation example is measured, spread evenly between
    --t-min and --t-max."""
    select_by: SelectBy | None = None
    """Criterion by which the run chooses its final adapter: the lowest validation loss, the highest
    ranking accuracy, the largest share of statements that hold in the pictures of --sample-graphs
    ('obeyed'), or the last step. By default it is 'val_loss', but 'last' with --lambda-words,
    whose guided teacher raises the validation loss."""
    early_stopping_patience: int = 0
    """Number of validations without a better figure of --select-by after which the run ends; 0
    never ends it early."""
    early_stopping_min_delta: float = 0.0
    """With --early-stopping-patience: a figure is better only if it differs by more than this."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "val_sigmas")
        expect_least(self, 0, "val_every", "val_examples", "early_stopping_patience")
        delta = self.early_stopping_min_delta
        expect(delta >= 0, "early_stopping_min_delta", delta, "be at least 0")
        if not self.early_stopping_patience:
            expect_defaults(self, "without early_stopping_patience", "early_stopping_min_delta")
        elif self.val_every == 0:
            raise ConfigError(
                "early_stopping_patience has no effect with val_every 0: the only validation is "
                "after the last step"
            )
