"""A classifier's figures on answers that can be counted by hand.

If one of these failed, a classifier that knows nothing would be reported as one that knows
something.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sgflux.intervals import Layout, share_interval
from sgflux.training.classifier.figures import calibration, held_out_figures


def test_figures_of_four_answers() -> None:
    # Answers 0, 0, 1, 1 where 0, 1, 1, 1 is true.
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    figures = held_out_figures(
        logits, torch.tensor([0, 1, 1, 1]), pictures=["a", "b", "c", "c"], predicates=["in", "on"]
    )
    assert figures["accuracy"] == 0.75
    assert figures["chance"] == 0.75, "always the most frequent one"
    assert (figures["n"], figures["pictures"]) == (4, 3)
    assert figures["confusion"] == {"labels": ["in", "on"], "counts": [[1, 0], [1, 2]]}
    found = share_interval(
        np.array([1.0, 0.0, 1.0, 1.0]), Layout(["all"] * 4, ["a", "b", "c", "c"])
    )
    assert figures["ci95"] == [found.low[0], found.high[0]]
    confidence = 1 / (1 + math.exp(-2))
    assert figures["calibration"]["ece"] == pytest.approx(confidence - 0.75)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="got"):
        held_out_figures(torch.zeros(2, 2), torch.zeros(1), pictures=["a"], predicates=["in", "on"])


def test_a_classifier_that_never_errs_on_few_pictures_may_err_on_others() -> None:
    figures = held_out_figures(
        torch.eye(2).repeat(10, 1),
        torch.tensor([0, 1] * 10),
        pictures=range(20),
        predicates=["in", "on"],
    )
    low, high = figures["ci95"]
    assert (figures["accuracy"], high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 20), abs=2e-3)


def test_calibration_by_hand() -> None:
    figures = calibration(torch.tensor([0.55, 0.55, 0.95]), torch.tensor([True, False, False]))
    assert figures["ece"] == pytest.approx(2 / 3 * 0.05 + 1 / 3 * 0.95)
    assert [entry["n"] for entry in figures["bins"]] == [2, 1]
