"""The losses about relations, on numbers that can be checked by hand.

If one of these failed, a loss about relations would differ from its formula.
"""

from __future__ import annotations

import math

import pytest
import torch

from sgflux.models.errors import flow_matching_loss
from sgflux.training.terms.ranking.form import RankingForm
from sgflux.training.terms.relation_weighting import (
    relation_weights,
    weighted_flow_matching_loss,
)
from sgflux.training.terms.term import Schedule


def pairs(*values: float) -> torch.Tensor:
    return torch.tensor([list(values)])


def test_the_strongest_token_counts_one_plus_alpha_times_as_much() -> None:
    weights = relation_weights(torch.tensor([[0.2, 0.1, 0.0]]), alpha=3.0)
    # 1 + 3 * (1, 1/2, 0) = 4, 2.5, 1, whose mean is 2.5.
    torch.testing.assert_close(weights, torch.tensor([[1.6, 1.0, 0.4]]))
    assert relation_weights(torch.zeros(2, 4), alpha=3.0).tolist() == [[1.0] * 4] * 2


def test_the_weights_have_no_gradient() -> None:
    region = torch.rand(2, 3, requires_grad=True)
    assert not relation_weights(region, alpha=1.0).requires_grad


def test_the_weighted_error_by_hand() -> None:
    velocity = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]])
    target = torch.zeros(1, 2, 2)
    # Errors per token 1 and 2; weights 1.5 and 0.5.
    weighted = weighted_flow_matching_loss(velocity, target, torch.tensor([[1.5, 0.5]]))
    assert weighted.tolist() == [1.25]
    flat = weighted_flow_matching_loss(velocity, target, torch.ones(1, 2))
    assert flat.tolist() == flow_matching_loss(velocity, target).tolist()
    with pytest.raises(ValueError, match=r"weights \(B, S\)"):
        weighted_flow_matching_loss(velocity, target, torch.ones(1, 3))


def test_one_negative_is_the_logistic_loss() -> None:
    form = RankingForm(temperature=2.0, ceiling=10.0)
    loss = form.loss(pairs(1.0, 2.0), pairs(2.0, 1.0), torch.ones(1, 2, dtype=torch.bool))
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_several_negatives_are_infonce() -> None:
    form = RankingForm(temperature=1.0, ceiling=10.0)
    positive = torch.tensor([[1.0], [1.0], [1.0]])
    negative = torch.tensor([[2.0], [3.0], [0.0]])
    paired = torch.tensor([[True], [True], [False]])
    logits = torch.tensor([-1.0, -2.0, -3.0])  # of the positive and the two negatives
    expected = -logits.log_softmax(0)[0]
    assert form.loss(positive, negative, paired).item() == pytest.approx(expected.item())


def test_the_margin_form_by_hand() -> None:
    form = RankingForm(temperature=1.0, ceiling=1.0, margin=0.5)
    positive, negative = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.2], [3.0]])
    paired = torch.ones(2, 1, dtype=torch.bool)
    assert form.loss(positive, negative, paired).item() == pytest.approx(0.15)  # (0.3 + 0) / 2
    assert form.active(positive, negative, paired).tolist() == [[True], [False]]


@pytest.mark.parametrize("margin", [None, 0.5])
def test_the_true_graph_is_never_traded_away(margin: float | None) -> None:
    """The gradient in e(g+) is >= 0, and beyond the reach nothing is pushed any more."""
    form = RankingForm(temperature=4.0, ceiling=0.5, margin=margin)
    for gap in (-3.0, -0.1, 0.1, 0.45, 0.55, 30.0):
        positive = torch.tensor([[1.0]], requires_grad=True)
        negative = torch.tensor([[1.0 + gap]], requires_grad=True)
        form.loss(positive, negative, torch.ones(1, 1, dtype=torch.bool)).backward()
        assert positive.grad is not None
        assert negative.grad is not None
        assert positive.grad.item() >= 0
        assert negative.grad.item() == -positive.grad.item()
        assert abs(negative.grad.item()) <= 4.0
        if gap > 0.5:
            assert negative.grad.item() == 0


def test_examples_without_a_pair_count_for_nothing() -> None:
    form = RankingForm(temperature=1.0, ceiling=1.0)
    positive = torch.tensor([[1.0, 5.0]], requires_grad=True)
    paired = torch.tensor([[True, False]])
    loss = form.loss(positive, pairs(1.0, float("nan")), paired)
    assert loss.item() == pytest.approx(math.log(2))
    nothing = form.loss(positive, pairs(1.0, 1.0), torch.zeros(1, 2, dtype=torch.bool))
    assert nothing.item() == 0
    nothing.backward()
    assert positive.grad is not None
    assert positive.grad.tolist() == [[0.0, 0.0]]


def test_forms_that_push_nothing_or_for_ever_are_refused() -> None:
    for name in ("temperature", "ceiling", "margin"):
        settings = {"temperature": 1.0, "ceiling": 1.0, "margin": 1.0, name: 0.0}
        with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
            RankingForm(**settings)


def test_a_term_warms_in() -> None:
    schedule = Schedule(2.0, start=2, warm_in=3)
    assert [schedule.at(step) for step in range(7)] == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert [Schedule(0.5).at(step) for step in range(2)] == [0.5, 0.5]
    with pytest.raises(ValueError, match="must be > 0"):
        Schedule(0.0)
