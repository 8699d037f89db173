"""The target of flow matching, and the scale of the graph's effect in it.

If one of these failed, the adapter would learn another effect of the graph than asked for,
examples without a graph would learn one, or small objects would not count as told.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.data.boxes import Box, Layout
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.errors import flow_matching_loss
from sgflux.settings.checks import ConfigError
from sgflux.settings.flow import FlowSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.terms.flow_matching import FlowMatching

RIDING = SceneGraph.parse("man, riding, horse")
DATA, BASE = 5.0, 1.0


class Objective:
    """A base whose velocity is BASE, and data whose velocity is DATA; it counts its examples."""

    def __init__(self, *, asked_at_least: list[int] | None) -> None:
        self.passes = 0
        self.asked_at_least = asked_at_least or []

    def base_velocity(self, batch: Batch) -> Tensor:
        self.passes += len(batch.graphs)
        return torch.full((len(batch.graphs), 2, 1), BASE)

    def target(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.graphs), 2, 1), DATA)


def term_of(settings: FlowSettings, *, with_boxes: bool = True) -> FlowMatching:
    """The term of these settings, with one row of data, which has boxes or not."""
    example: Any = SimpleNamespace(boxes=() if with_boxes else None)
    sources: Any = SimpleNamespace(examples=[example])
    return FlowMatching(settings, sources)


def loss_of(
    scale: float,
    velocity: Tensor,
    graphs: tuple[SceneGraph, ...],
    *,
    scale_from: float = 0.0,
    object_share: float = 0.0,
    layouts: Sequence[Layout] = (),
    asked_at_least: list[int] | None = None,
) -> tuple[Tensor, int]:
    """The loss of a term with these settings, and how many examples the base reads.

    The noise levels of the examples are 0, 0.1, 0.2 and so on. The two tokens of a picture are
    squares of one latent, one on the other.
    """
    rows, sigma = torch.zeros(len(graphs), 1, 2, 1), torch.arange(len(graphs)) / 10
    batch = Batch(graphs=graphs, latents=rows, noise=rows, sigma=sigma, text={"hidden": rows})
    objective = Objective(asked_at_least=asked_at_least)
    errors = flow_matching_loss(velocity, objective.target(batch))
    branches = SimpleNamespace(velocity=velocity[None], errors=errors[None])
    step: Any = SimpleNamespace(
        batch=batch, objective=objective, branches=branches, rows=range(len(graphs))
    )
    parts: Any = SimpleNamespace(layouts=lambda: layouts)
    settings = FlowSettings(flow_scale=scale, flow_scale_from=scale_from, object_share=object_share)
    loss, _ = term_of(settings).ready(parts)(step)
    return loss, objective.passes


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 4.0])
def test_the_velocity_with_the_scaled_effect_is_its_own_target(scale: float) -> None:
    """It has neither error nor gradient there; where it has one, the base's is no part of it."""
    velocity = torch.full((1, 2, 1), BASE + scale * (DATA - BASE), requires_grad=True)
    loss, passes = loss_of(scale, velocity, (RIDING,))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(velocity.grad, torch.zeros(1, 2, 1))
    assert passes == (0 if scale == 1 else 1), "the default costs nothing further"
    moved = (velocity.detach() + 1).requires_grad_()
    loss, _ = loss_of(scale, moved, (RIDING,))
    loss.backward()
    # The target moves by 1 - 1 / scale; no gradient goes through it.
    assert loss.item() == pytest.approx(1 / scale**2)
    torch.testing.assert_close(moved.grad, torch.full((1, 2, 1), 1 / scale))


def test_an_example_without_a_graph_learns_the_data() -> None:
    velocity = torch.full((2, 2, 1), DATA)
    loss, passes = loss_of(2.0, velocity, (SceneGraph.null(), RIDING))
    assert passes == 1
    # The one with a graph: its target is 5 + 0.5 * (5 - 1) = 7; the other one has no error.
    assert loss.item() == pytest.approx(4 / 2)
    assert loss_of(2.0, velocity[:1], (SceneGraph.null(),))[1] == 0


def test_examples_with_less_noise_than_the_scale_is_for_learn_the_data() -> None:
    velocity = torch.full((3, 2, 1), DATA)
    loss, passes = loss_of(2.0, velocity, (RIDING,) * 3, scale_from=0.2)
    assert passes == 1
    # Only the target of the last one is 5 + 0.5 * (5 - 1) = 7.
    assert loss.item() == pytest.approx(4 / 3)


def test_processes_that_share_the_base_call_it_in_each_step() -> None:
    """One that does not would leave the others without its part of the weights."""
    velocity, nobody = torch.full((1, 2, 1), DATA), (SceneGraph.null(),)
    loss, passes = loss_of(2.0, velocity, nobody, asked_at_least=[0])
    assert (loss.item(), passes) == (0, 1)
    assert loss_of(1.0, velocity, nobody, asked_at_least=[0])[1] == 0


def test_objects_with_a_share_weigh_the_error_and_the_scaled_one() -> None:
    """Two examples: the box of the first one's object is the upper half; the other has none."""
    velocity = torch.tensor([[[DATA + 3], [DATA + 1]]] * 2)
    upper: Layout = (Box(0.0, 0.0, 1.0, 0.5), None)
    layouts: list[Layout] = [upper, (None,)]
    graphs = (RIDING, SceneGraph.null())
    # Errors of 9 and 1: half of the first example's loss is the box's 9, the other half the mean.
    loss, passes = loss_of(1.0, velocity, graphs, object_share=0.5, layouts=layouts)
    assert (loss.item(), passes) == (pytest.approx((0.5 * 9 + 0.5 * 5 + 5) / 2), 0)
    # With the scale the first one's targets are 5 + (8 - 1) / 2 and 5 + (6 - 1) / 2.
    loss, passes = loss_of(2.0, velocity, graphs, object_share=1.0, layouts=layouts)
    assert (loss.item(), passes) == (pytest.approx((0.5**2 + 5) / 2), 1)


def test_objects_cannot_have_a_share_without_boxes() -> None:
    with pytest.raises(SgfluxError, match="object_share needs boxes, and no row"):
        term_of(FlowSettings(object_share=0.5), with_boxes=False)
    term_of(FlowSettings(), with_boxes=False)


def test_settings_of_noise_levels_that_cannot_be_or_have_no_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"flow_scale_from .* with flow_scale 1"):
        FlowSettings(flow_scale_from=0.5)
    with pytest.raises(ConfigError, match=r"band_min .* without band_share"):
        FlowSettings(band_min=0.3)
    with pytest.raises(ConfigError, match=r"got 0\.15 and 0\.65 between 0\.4 and 1"):
        FlowSettings(band_share=0.5, t_min=0.4)
    with pytest.raises(ConfigError, match="whose levels are fixed"):
        FlowSettings(band_share=0.5, sigma_scheme="schnell")


def test_the_estimate_counts_the_bases_forward_pass() -> None:
    terms = [term_of(FlowSettings(flow_scale=scale)) for scale in (1.0, 2.0)]
    assert [term.needs().teacher_passes for term in terms] == [0, 1]


def test_a_scale_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="flow_scale must be at least 1"):
        FlowSettings(flow_scale=0.5)
