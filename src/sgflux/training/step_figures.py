"""The figures of the steps since the last line of the log."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.training.checkpoints.step_files import step_files


class NotFiniteError(SgfluxError):
    """A loss or gradient is no number any more; the message names the step and the way out."""


class StepFigures:
    """Collects a row of figures for each step, and averages them for a line of the log.

    The rows stay on the device until they are read, so that no step waits for the device.
    """

    def __init__(self, folder: Path) -> None:
        """Begin without a row.

        Args:
            folder: Folder of the run, whose last checkpoint an error names.
        """
        self._folder = folder
        self._unread: list[Tensor] = []
        self._read: list[list[float]] = []

    def add(self, row: Tensor) -> None:
        """Add the row of a step: loss, norm of the gradient and F further figures, (2 + F,)."""
        self._unread.append(row)

    def __len__(self) -> int:
        """Number of steps since the last line of the log."""
        return len(self._unread) + len(self._read)

    def read(self, *, step: int) -> None:
        """Wait for the device, and check the rows that were added since the last time.

        Args:
            step: Number of the step that the last row is of.

        Raises:
            NotFiniteError: if a loss or the norm of a gradient is not finite.
        """
        if not self._unread:
            return
        rows = torch.stack(self._unread).tolist()
        first = step - len(rows) + 1
        self._unread.clear()
        for number, (loss, norm, *figures) in enumerate(rows, start=first):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"loss ({loss})" if not math.isfinite(loss) else f"gradient norm ({norm})"
                saved = list(step_files(self._folder).values())
                way_out = (
                    f"the last good checkpoint is {saved[-1]}" if saved else "nothing was saved yet"
                )
                raise NotFiniteError(
                    f"the {what} of step {number} is not finite; {way_out}. A lower lr, a longer "
                    "warmup, or dtype fp32 usually helps; these make a new run"
                )
            self._read.append([loss, norm, *figures])

    def take_means(self) -> list[float]:
        """Return the means of the rows that were read, (2 + F) numbers, and begin again."""
        means = [sum(values) / len(self._read) for values in zip(*self._read, strict=True)]
        self._read.clear()
        return means
