"""Figures of steps: their means, and the step at which a run stops because one is no number.

If one of these failed, the log would have wrong means, or an error would name another step.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgflux.training.step_figures import NotFiniteError, StepFigures


def test_a_line_of_the_log_has_the_means_of_the_steps_since_the_last_line(tmp_path: Path) -> None:
    figures = StepFigures(tmp_path)
    figures.add(torch.tensor([1.0, 2.0, 10.0]))
    figures.read(step=1)
    figures.add(torch.tensor([3.0, 4.0, 20.0]))
    assert len(figures) == 2
    figures.read(step=2)
    assert figures.take_means() == [2.0, 3.0, 15.0]
    assert len(figures) == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([float("nan"), 1.0], r"the loss \(nan\) of step 6 is not finite; nothing was saved yet"),
        ([1.0, float("inf")], r"the gradient norm \(inf\) of step 6 is not finite"),
    ],
)
def test_the_step_whose_figures_are_not_finite_is_named(
    tmp_path: Path, row: list[float], message: str
) -> None:
    figures = StepFigures(tmp_path)
    for one in ([1.0, 1.0], row, [1.0, 1.0]):
        figures.add(torch.tensor(one))
    with pytest.raises(NotFiniteError, match=message):
        figures.read(step=7)
