"""A classifier's figures on answers that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from sgflux.training.classifier_figures import calibration, held_out_figures, wilson_interval


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
    assert figures["ci95"] == list(wilson_interval(0.75, 3))
    confidence = 1 / (1 + math.exp(-2))
    assert figures["calibration"]["ece"] == pytest.approx(confidence - 0.75)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="got"):
        held_out_figures(torch.zeros(2, 2), torch.zeros(1), pictures=["a"], predicates=["in", "on"])


def test_the_interval_of_half_of_a_hundred() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson_interval(1.0, 4)[1] == pytest.approx(1.0)


def test_calibration_by_hand() -> None:
    figures = calibration(torch.tensor([0.55, 0.55, 0.95]), torch.tensor([True, False, False]))
    assert figures["ece"] == pytest.approx(2 / 3 * 0.05 + 1 / 3 * 0.95)
    assert [entry["n"] for entry in figures["bins"]] == [2, 1]
