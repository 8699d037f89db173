"""How often the adapter is validated, on what, and which one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgflux.settings.checks import expect_least, typed_fields

SelectBy = Literal["val_loss", "ranking_accuracy", "last"]


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
    ranking accuracy, or the last step. By default it is 'val_loss', but 'last' with --lambda-words,
    whose guided teacher raises the validation loss."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "val_sigmas")
        expect_least(self, 0, "val_every", "val_examples")
