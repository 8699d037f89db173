"""Learning rate, AdamW's groups, the average over time, the order and seeds of examples.

If one of these failed, the learning rate, weight decay, moving average or order of examples would
differ from what the plan says.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sgflux.errors import SgfluxError
from sgflux.training.optimization import Average, learning_rate_factor, make_optimizer
from sgflux.training.randomness import ExampleOrder, derived_seed, generator_for, power_weights


def test_the_learning_rate_rises_then_falls_to_its_floor() -> None:
    factors = [
        learning_rate_factor(step, warmup_steps=4, max_steps=104, floor=0.1) for step in range(104)
    ]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[54] == pytest.approx(0.55)  # half way of the cosine
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert 0.1 < factors[-1] < 0.101


def test_gates_have_their_own_rate_and_only_matrices_decay() -> None:
    weights = {
        "lora.a.weight": nn.Parameter(torch.zeros(2, 2)),
        "conditioner.norm.weight": nn.Parameter(torch.zeros(2)),
        "conditioner.gates.3.image": nn.Parameter(torch.zeros(2)),
    }
    optimizer = make_optimizer(weights, lr=0.1, weight_decay=0.5, gate_lr_scale=3.0)
    groups = [(g["param_names"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert groups == [
        (["lora.a.weight"], 0.1, 0.5),
        (["conditioner.norm.weight"], 0.1, 0.0),
        (["conditioner.gates.3.image"], pytest.approx(0.3), 0.0),
    ]


def test_trained_weights_must_be_float32_and_a_gate_rate_needs_a_gate() -> None:
    half = {"lora.a": nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))}
    with pytest.raises(SgfluxError, match=r"lora\.a is torch\.bfloat16"):
        make_optimizer(half, lr=0.1, weight_decay=0, gate_lr_scale=1)
    single = {"lora.a": nn.Parameter(torch.zeros(2, 2))}
    with pytest.raises(SgfluxError, match="has no gate"):
        make_optimizer(single, lr=0.1, weight_decay=0, gate_lr_scale=2)


def test_the_average_follows_quickly_at_first_and_can_be_swapped_in() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = Average({"w": weight}, decay=0.9)
    with torch.no_grad():
        weight.fill_(11.0)
    average.update(1)  # decay 2/11
    torch.testing.assert_close(average.values["w"], torch.full((3,), 9.0))
    with average.swapped_in():
        assert weight[0].item() == pytest.approx(9.0)
    assert weight[0].item() == 11.0
    for _ in range(3):
        average.update(10_000)  # decay 0.9
    assert average.values["w"][0].item() == pytest.approx(11 - 2 * 0.9**3)


def test_every_epoch_shows_every_example_once_in_its_own_order() -> None:
    order = ExampleOrder(num_examples=5, seed=3)
    flat = order.indices(0, 15)
    epochs = [flat[0:5], flat[5:10], flat[10:15]]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    # What comes at a position does not depend on what was asked before.
    assert ExampleOrder(num_examples=5, seed=3).indices(7, 4) == flat[7:11]
    assert order.indices(3, 4) == flat[3:7]


def test_examples_are_shown_as_often_as_their_weights_ask_for() -> None:
    weights = [1.0, 2.0, 3.0, 4.0, 2.0]
    order = ExampleOrder(num_examples=5, seed=3, weights=weights)
    epochs = [order.indices(5 * epoch, 5) for epoch in range(600)]
    for row, weight in enumerate(weights):
        expected = 5 * weight / 12
        counts = [epoch.count(row) for epoch in epochs]
        assert set(counts) == {math.floor(expected), math.ceil(expected)}
        assert sum(counts) / 600 == pytest.approx(expected, abs=0.08)
    assert any(sorted(one) != one for one in epochs), "equal examples do not stand together"
    again = ExampleOrder(num_examples=5, seed=3, weights=weights)
    assert again.indices(52, 9) == [row for epoch in epochs[10:13] for row in epoch][2:11]


@pytest.mark.parametrize("power", [0.5, 2.0, 500.0, 5000.0, 1e300])
def test_weights_by_a_power_of_a_count_are_finite_at_every_power(power: float) -> None:
    """Where they overflowed, the run would end after the encoding, or show the wrong examples."""
    weights = power_weights([1, 4, 2, 4], power)
    assert max(weights) == 1
    assert weights[0] / weights[1] == pytest.approx(0.25**power)
    assert weights[2] / weights[1] == pytest.approx(0.5**power)
    order = ExampleOrder(num_examples=4, seed=3, weights=weights)
    if power > 100:
        assert sorted(order.indices(0, 8)) == [1] * 4 + [3] * 4


def test_seeds_differ_in_every_argument() -> None:
    seeds = {
        derived_seed(0, "batch", 1, 0),
        derived_seed(0, "batch", 0, 1),
        derived_seed(1, "batch", 0, 1),
        derived_seed(0, "order", 0, 1),
        derived_seed(0, "batch", 11),
    }
    assert len(seeds) == 5
    draws = [torch.randn(2, generator=generator_for(0, "batch", 4)) for _ in range(2)]
    assert torch.equal(*draws)
