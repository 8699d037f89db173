"""Judges answer in names, for every picture and every query, and say what they do not know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import NamePair, Reading, WorldJudgeAdapter, read_pictures
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.judge import CLASSES, WorldJudge, to_judge_images
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, render_relationships, sample_scene


def untrained() -> WorldJudgeAdapter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WorldJudge(fine=8, coarse=8, dim=8, heads=2, looks=1).eval()
    return WorldJudgeAdapter(network, batch_size=2)


def pictures(count: int) -> np.ndarray:
    return np.stack([sample_scene(np.random.default_rng(i)).image for i in range(count)])


def test_scores_are_log_probabilities_of_the_networks_own_answers() -> None:
    judge = untrained()
    images = pictures(3)
    queries: list[list[NamePair]] = [
        [("man", "horse"), ("horse", "man"), ("dog", "box")],
        [],
        [("Dog", "tree")],
    ]
    scores = judge.relation_scores(images, queries)
    assert [rows.shape for rows in scores] == [(3, 25), (0, 25), (1, 25)]
    for rows in scores:
        assert np.allclose(np.exp(rows).sum(axis=1), 1, atol=1e-5)
    pair = torch.tensor([OBJECT_NAMES.index("dog")]), torch.tensor([OBJECT_NAMES.index("tree")])
    with torch.inference_mode():
        alone = judge._network(to_judge_images(images[2:]), *pair).relation_logits
    assert np.allclose(scores[2][0], torch.log_softmax(alone[0], -1), atol=1e-5)


def test_what_the_judge_does_not_know_is_named() -> None:
    judge = untrained()
    with pytest.raises(SgfluxError, match="submarine"):
        judge.relation_scores(pictures(1), [[("submarine", "man")]])
    with pytest.raises(SgfluxError, match="kicking"):
        judge.check([SceneGraph.parse("man, kicking, ball")])
    with pytest.raises(SgfluxError, match="two objects called 'dog'"):
        judge.check([SceneGraph.parse("dog, above, dog#2")])
    with pytest.raises(SgfluxError, match="multiple of 64"):
        judge.relation_scores(np.zeros((1, 60, 60, 3), np.uint8), [[("man", "horse")]])
    with pytest.raises(SgfluxError, match="2 pictures but queries for 1"):
        judge.relation_scores(pictures(2), [[]])
    judge.check([SceneGraph.parse("Man, ride, horse")])


class Forgetful:
    """Leaves out what it is told to."""

    name = "forgetful"
    digest = None
    classes = CLASSES

    def __init__(self, *, pictures: int = 0, objects: int = 0, queries: int = 0) -> None:
        self.pictures, self.objects, self.queries = pictures, objects, queries

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Everything is fine."""

    def relation_scores(
        self, images: np.ndarray | Sequence[np.ndarray], queries: Sequence[Sequence[NamePair]]
    ) -> list[np.ndarray]:
        scores = [np.zeros((len(own) - self.queries, 25), np.float32) for own in queries]
        return scores[self.pictures :]

    def objects_present(self, images: np.ndarray | Sequence[np.ndarray]) -> list[frozenset[str]]:
        return [frozenset({"man"})] * (len(images) - self.objects)


@pytest.mark.parametrize(
    ("missing", "message"),
    [({"pictures": 1}, "lengths"), ({"objects": 1}, "lengths"), ({"queries": 1}, "shape")],
)
def test_a_judge_that_leaves_something_out_stops_the_run(
    missing: dict[str, int], message: str
) -> None:
    statements = [[Triple("man", "riding", "horse")], [Triple("cat", "on", "box")]]
    assert len(read_pictures(Forgetful(), pictures(2), statements)) == 2
    with pytest.raises(SgfluxError, match=message):
        read_pictures(Forgetful(**missing), pictures(2), statements)
    with pytest.raises(SgfluxError, match="lengths"):
        read_pictures(Forgetful(), pictures(2), statements[:1])


def test_a_reading_is_right_by_the_most_likely_class() -> None:
    values = np.full(len(CLASSES), -5.0)
    values[CLASSES.index("riding")] = -0.2
    values[CLASSES.index("on")] = -1.0
    reading = Reading(
        classes=CLASSES,
        scores={("man", "horse"): values, ("horse", "man"): np.zeros(len(CLASSES))},
        present=frozenset({"man", "horse"}),
    )
    riding, alias = Triple("man", "riding", "horse"), Triple("Man", "ride", "horse")
    on = Triple("man", "on", "horse")
    assert reading.relation(riding) == "riding"
    assert reading.is_right(riding)
    assert reading.is_right(alias), "aliases and case do not matter"
    assert not reading.is_right(on)
    assert reading.preference(riding, on) == 1.0
    assert reading.preference(on, riding) == 0.0
    assert reading.preference(riding, alias) == 0.5
    assert reading.preference(Triple("horse", "riding", "man"), riding) == 1.0
    assert reading.has_all(["Man", "horse"])
    assert not reading.has_all(["man", "cat"])


def test_the_bundled_judge_reads_the_worlds_pictures() -> None:
    """Loose bounds: how good it is exactly is measured in tests/world/test_judge.py."""
    judge = WorldJudgeAdapter.load()
    rng = np.random.default_rng(5)
    scenes = [
        render_relationships(rng, [(first, predicate, second)])
        for predicate in PREDICATES
        for first, second in (("man", "horse"), ("dog", "box"))
    ]
    statements = [scene.graph().triples() for scene in scenes]
    readings = read_pictures(judge, [scene.image for scene in scenes], statements)
    right = [r.is_right(own[0]) for r, own in zip(readings, statements, strict=True)]
    objects = [r.has_all(scene.objects) for r, scene in zip(readings, scenes, strict=True)]
    assert np.mean(right) >= 0.9
    assert np.mean(objects) >= 0.9
