"""The losses, on numbers that can be checked by hand.

If one of these failed, the loss would weigh examples, noise levels or channels differently from
its formula.
"""

from __future__ import annotations

import pytest
import torch

from sgflux.models.errors import flow_matching_loss
from sgflux.training.terms.errors import ranking_accuracy


def test_the_error_is_the_mean_square_per_example() -> None:
    velocity = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]])
    assert flow_matching_loss(velocity, target).tolist() == [2.5, 4.5]


def test_the_error_is_float32_under_bf16_arithmetic() -> None:
    # 2^17 equal squares: a bf16 mean would be off in the third digit.
    velocity = torch.full((1, 2**17), 1.1, dtype=torch.bfloat16)
    error = flow_matching_loss(velocity, torch.zeros_like(velocity))
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(velocity[0, 0].float().item() ** 2, rel=1e-5)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"same shape \(B, ...\), got \(2, 3\) and \(3, 2\)"):
        flow_matching_loss(torch.zeros(2, 3), torch.zeros(3, 2))


def test_a_tie_is_chance() -> None:
    positive = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert ranking_accuracy(positive, torch.tensor([2.0, 0.5, 1.0, 3.0])).item() == 0.625
    assert ranking_accuracy(positive, positive).item() == 0.5
