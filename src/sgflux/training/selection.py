"""Which validated adapter is the best one, and when a run has stopped getting better.

Both look at one figure of a validation, by its name in ``metrics.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgflux.settings.validation import SelectBy, ValidationSettings

_FIGURES: dict[str, tuple[str, int, str]] = {
    "val_loss": ("loss", -1, "the validation loss"),
    "ranking_accuracy": ("ranking_accuracy", 1, "the ranking accuracy"),
    "obeyed": ("obeyed", 1, "the share of sample graphs' statements that hold"),
}
"""Value of ``select_by`` -> name of the figure, 1 if more of it is better or else -1, its words."""


def can_choose(row: Mapping[str, Any], *, by: SelectBy) -> bool:
    """Whether the figures of a validation have the one that is chosen by."""
    return by == "last" or _FIGURES[by][0] in row


def is_better(row: Mapping[str, Any], than: Mapping[str, Any], *, by: SelectBy) -> bool:
    """Whether the figures of a validation are strictly better than those of an earlier one.

    Where a figure that comes in steps is equal, the lower loss is better. By 'last', whatever is
    later is better.
    """
    return by == "last" or _merit(row, by) > _merit(than, by)


def _merit(row: Mapping[str, Any], by: str) -> tuple[float, float]:
    name, sign, _ = _FIGURES[by]
    return sign * row[name], -row.get("loss", 0.0)


class Patience:
    """Ends a run whose figure has not got better in so many validations."""

    def __init__(self, settings: ValidationSettings, *, by: SelectBy) -> None:
        """Start before the first validation.

        Args:
            settings: Number of validations without a better figure, and what counts as better.
            by: Figure; 'last' if the run is not to be ended.
        """
        self._limit = settings.early_stopping_patience
        self._least = settings.early_stopping_min_delta
        self._by = by
        self._best: float | None = None
        self._step = self._waited = 0

    def see(self, row: Mapping[str, Any], *, step: int) -> None:
        """Take in the figures of the validation after ``step``."""
        if not self._limit:
            return
        name, sign, _ = _FIGURES[self._by]
        value = float(row[name])
        if self._best is None or sign * (value - self._best) > self._least:
            self._best, self._step, self._waited = value, step, 0
        else:
            self._waited += 1

    @property
    def may_end_early(self) -> bool:
        """Whether the run can be ended at all."""
        return self._limit > 0

    @property
    def is_over(self) -> bool:
        """Whether the run is to be ended."""
        return self.may_end_early and self._waited >= self._limit

    def __str__(self) -> str:
        """The reason of the end."""
        _, sign, words = _FIGURES[self._by]
        way = "grown" if sign > 0 else "fallen"
        than = f" by more than {self._least:g}" if self._least else ""
        return (
            f"{words} has not {way}{than} in {self._waited} validations "
            f"(--early-stopping-patience {self._limit}); it was {self._best:.4f} after step "
            f"{self._step}"
        )

    def to_state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps; None before the first validation."""
        if self._best is None:
            return None
        return {"best": self._best, "step": self._step, "waited": self._waited}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was saved."""
        self._best, self._step = float(state["best"]), int(state["step"])
        self._waited = int(state["waited"])
