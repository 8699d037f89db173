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
    """Steps between two validations; 0: only after the last step."""
    val_examples: int = 64
    """Validation examples used, spread evenly over the file; 0: all."""
    val_sigmas: int = 4
    """Noise levels at which each validation example is measured, spread evenly over
    t_min..t_max."""
    select_by: SelectBy | None = None
    """Which adapter the run ends with: that of the lowest validation loss, of the highest ranking
    accuracy, or the last one; None: 'val_loss', but 'last' with lambda_words, whose guided teacher
    raises that loss."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "val_sigmas")
        expect_least(self, 0, "val_every", "val_examples")
