"""A judge says the same during a training as in an evaluation, about whole graphs.

If one of these failed, a training would choose its adapter by other verdicts than those that its
evaluation reports.
"""

from __future__ import annotations

import numpy as np
import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import Outcome
from sgflux.evaluation.observing import make_observer
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.judges import JudgeSettings
from sgflux.training.samples.graphs import SampleGraph
from sgflux.training.samples.observer import VERDICTS, Observer
from sgflux.training.samples.sampler import admit
from sgflux.world.scenes import render_relationships


def sample(text: str) -> SampleGraph:
    return SampleGraph(text, SceneGraph.parse(text), text, "")


@pytest.fixture(scope="module")
def world() -> Observer:
    return make_observer("world", JudgeSettings(), device="cpu")


def test_the_verdicts_are_those_of_the_judges() -> None:
    """Training has its own list, since it may not import evaluation."""
    assert tuple(Outcome) == VERDICTS


def test_a_picture_is_judged_by_the_statements_of_its_graph(world: Observer) -> None:
    above = SceneGraph.parse("dog, above, box")
    picture = render_relationships(np.random.default_rng(0), [("dog", "above", "box")]).image
    graphs = [above, SceneGraph.parse("dog, below, box"), SceneGraph.parse("dog, saddling, box")]
    read = world.read([picture] * 3, graphs)
    assert read == [
        {Triple("dog", "above", "box"): "holds"},
        {Triple("dog", "below", "box"): "contradicted"},
        {},  # a predicate that the judge does not cover
    ]
    assert type(next(iter(read[0].values()))) is str


def test_what_a_judge_cannot_judge_is_said_before_the_training(world: Observer) -> None:
    graphs = [sample("dog, above, box"), sample("dog, above, lorry"), sample("dog, saddling, box")]
    watched, lines = admit(graphs, world, size=(64, 64))
    assert watched.judged == [0, 2]
    assert "3 sample graphs with 3 statements, of which the judge 'world' reads 1" in lines[0]
    assert "dog, above, lorry is drawn but not judged: " in lines[1]
    assert "'lorry'" in lines[1]
    with pytest.raises(SgfluxError, match="can judge none of the sample graphs"):
        admit(graphs[1:], world, size=(64, 64))
    with pytest.raises(SgfluxError, match="squares of a multiple of 64 pixels"):
        admit(graphs, world, size=(48, 48))


def test_an_unknown_judge_is_named() -> None:
    with pytest.raises(SgfluxError, match="judge must be 'none' or different ones"):
        make_observer("wrld", JudgeSettings(), device="cpu")
