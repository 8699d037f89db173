"""The target of the distillation from text, and its scale.

If one of these failed, the adapter would learn another effect of the words than asked for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.checks import ConfigError
from sgflux.settings.losses import WordsSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.terms.words import Words

GRAPHS = (SceneGraph.parse("man, riding, horse"), SceneGraph.null())


class Base:
    """A base whose velocity is its text, in place of the objective; it counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def base_velocity(self, batch: Batch) -> Tensor:
        self.passes += 1
        return batch.text["hidden"]


def loss_of(scale: float, *, velocity: Tensor) -> tuple[float, int]:
    """The loss for own texts of 1 and stated ones of 3, and the base's forward passes."""
    own, stated = torch.full((2, 1, 1), 1.0), torch.full((2, 1, 1), 3.0)
    batch = Batch(graphs=GRAPHS, latents=own, noise=own, sigma=own, text={"hidden": own})
    base = Base()
    term = Words(WordsSettings(words_scale=scale), sources=None)  # type: ignore[arg-type]
    parts: Any = SimpleNamespace(captions=lambda _: {"hidden": stated})
    branches = SimpleNamespace(velocity=velocity[None])
    step: Any = SimpleNamespace(batch=batch, rows=[0, 1], objective=base, branches=branches)
    loss, _ = term.ready(parts)(step)
    return float(loss), base.passes


@pytest.mark.parametrize(("scale", "told"), [(1.0, 3.0), (1.5, 4.0), (0.5, 2.0)])
def test_the_scale_multiplies_what_the_words_change(scale: float, told: float) -> None:
    """1 + scale * (3 - 1) with a graph; the base under its own text, 1, without."""
    target = torch.tensor([told, 1.0]).view(2, 1, 1)
    loss, passes = loss_of(scale, velocity=target)
    assert loss == 0
    assert passes == (1 if scale == 1 else 2), "the default costs nothing further"
    assert loss_of(scale, velocity=target + 1)[0] == 1


def test_the_estimate_counts_the_bases_forward_passes() -> None:
    needs = [Words(WordsSettings(words_scale=scale), None).needs() for scale in (1.0, 1.5)]  # type: ignore[arg-type]
    assert [need.teacher_passes for need in needs] == [1, 2]


def test_a_scale_that_cannot_be_or_has_no_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="words_scale must be greater than 0"):
        WordsSettings(words_scale=-1.5)
    with pytest.raises(ConfigError, match="words_scale"):
        WordsSettings(lambda_words=0, words_scale=1.5)
