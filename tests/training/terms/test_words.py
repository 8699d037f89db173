"""The target of the distillation from text, and its scale.

If one of these failed, the adapter would learn another effect of the words than asked for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.data.boxes import Box, Layout
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.checks import ConfigError
from sgflux.settings.losses import WordsSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.terms.words import Words

RIDING = SceneGraph.parse("man, riding, horse")
GRAPHS = (RIDING, SceneGraph.null(), RIDING)


class Base:
    """A base whose velocity is its text, in place of the objective; it counts its examples."""

    def __init__(self, *, asked_at_least: list[int] | None) -> None:
        self.passes = 0
        self.asked_at_least = asked_at_least or []

    def base_velocity(self, batch: Batch) -> Tensor:
        self.passes += len(batch.graphs)
        return batch.text["hidden"]


def loss_of(
    scale: float,
    *,
    velocity: Tensor,
    graphs: tuple[SceneGraph, ...] = GRAPHS,
    layouts: tuple[Layout | None, ...] | None = None,
    asked_at_least: list[int] | None = None,
) -> tuple[float, int]:
    """The loss for own texts of 1 and stated ones of 3, and how many examples the base reads."""
    own, stated = torch.full((len(graphs), 1, 1), 1.0), torch.full((len(graphs), 1, 1), 3.0)
    batch = Batch(
        graphs=graphs, latents=own, noise=own, sigma=own, text={"hidden": own}, layouts=layouts
    )
    base = Base(asked_at_least=asked_at_least)
    term = Words(WordsSettings(words_scale=scale), sources=None)  # type: ignore[arg-type]
    parts: Any = SimpleNamespace(captions=lambda _: {"hidden": stated})
    branches = SimpleNamespace(velocity=velocity[None])
    step: Any = SimpleNamespace(
        batch=batch, rows=list(range(len(graphs))), objective=base, branches=branches
    )
    loss, _ = term.ready(parts)(step)
    return float(loss), base.passes


@pytest.mark.parametrize(("scale", "first"), [(1.0, 3.0), (1.5, 5.0), (0.5, 1.0)])
def test_the_scale_multiplies_what_the_words_change(scale: float, first: float) -> None:
    """With graphs 1 + scale * (3 - 1) on average; the base under its own text, 1, without.

    The first of the two examples with a graph has twice the excess over 1, the other has none.
    """
    target = torch.tensor([first, 1.0, 3.0]).view(3, 1, 1)
    assert (first + 3.0) / 2 == 1 + scale * (3 - 1)
    loss, examples = loss_of(scale, velocity=target)
    assert loss == 0
    assert examples == (3 if scale == 1 else 4), "the default costs nothing further"
    assert loss_of(scale, velocity=target + 1)[0] == 1


def test_a_single_example_with_a_graph_has_the_scale_itself() -> None:
    target = torch.tensor([4.0, 1.0]).view(2, 1, 1)
    assert loss_of(1.5, velocity=target, graphs=(RIDING, SceneGraph.null()))[0] == 0
    assert loss_of(1.5, velocity=target[1:], graphs=(SceneGraph.null(),)) == (0, 1)


def test_the_base_teaches_only_the_examples_that_are_read_without_boxes() -> None:
    """It does not know the boxes; a pass for the others would be lost time."""
    boxes: Layout = (Box(0.1, 0.1, 0.4, 0.4), None)
    layouts = (boxes, None, None)
    wrong = torch.tensor([9.0, 1.0, 3.0]).view(3, 1, 1)
    assert loss_of(1.0, velocity=wrong, layouts=layouts) == (0, 2)
    # The mean is over the whole batch.
    assert loss_of(1.0, velocity=wrong + 3, layouts=layouts)[0] == pytest.approx(2 * 9 / 3)
    assert loss_of(1.0, velocity=wrong, layouts=(boxes,) * 3) == (0, 0)


def test_processes_that_share_the_base_call_it_in_each_step() -> None:
    """One that does not would leave the others without its part of the weights."""
    boxes: Layout = (Box(0.1, 0.1, 0.4, 0.4), None)
    wrong = torch.full((3, 1, 1), 9.0)
    assert loss_of(1.0, velocity=wrong, layouts=(boxes,) * 3, asked_at_least=[0]) == (0, 1)
    null = (SceneGraph.null(),)
    assert loss_of(1.5, velocity=wrong[:1] / 9, graphs=null, asked_at_least=[0]) == (0, 2)


def test_the_estimate_counts_the_bases_forward_passes() -> None:
    needs = [Words(WordsSettings(words_scale=scale), None).needs() for scale in (1.0, 1.5)]  # type: ignore[arg-type]
    assert [need.teacher_passes for need in needs] == [1, 1.5]


def test_a_scale_that_cannot_be_or_has_no_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="words_scale must be greater than 0"):
        WordsSettings(words_scale=-1.5)
    with pytest.raises(ConfigError, match="words_scale"):
        WordsSettings(lambda_words=0, words_scale=1.5)
