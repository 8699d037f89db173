"""The bundled world's judge answers for every picture and statement, and says what it lacks.

If one of these failed, the bundled judge's verdicts would be assigned to other pictures or
statements than those it was asked about.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import Outcome, read_pictures
from sgflux.evaluation.judges.world import WorldJudgeAdapter, reading_of
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
    statements = [
        [
            Triple("man", "riding", "horse"),
            Triple("man", "on", "horse"),
            Triple("horse", "on", "man"),
        ],
        [],
        [Triple("Dog", predicate, "tree") for predicate in PREDICATES],
    ]
    readings = judge.read(images, statements)
    pairs = [[(e["subject"], e["object"]) for e in r.evidence["scores"]] for r in readings]
    assert pairs == [[("man", "horse"), ("horse", "man")], [], [("dog", "tree")]]
    pair = [torch.tensor([[OBJECT_NAMES.index(name)]]) for name in ("dog", "tree")]
    with torch.inference_mode():
        alone = judge._network.encode(to_judge_images(images[2:]))
        logits = judge._network.relation_logits(alone, *pair)
    wanted = torch.log_softmax(logits[0, 0], -1)
    scores = [readings[2].verdicts[triple].score for triple in statements[2]]
    assert np.allclose(np.array(scores), wanted[:-1], atol=1e-5), "the last class is none"
    there = (alone.presence_logits[0] > 0).tolist()
    assert readings[2].present == {n for n, yes in zip(OBJECT_NAMES, there, strict=True) if yes}


def test_what_the_judge_does_not_know_is_named() -> None:
    judge = untrained()
    with pytest.raises(SgfluxError, match="submarine"):
        judge.read(pictures(1), [[Triple("submarine", "on", "man")]])
    crowd = "; ".join(f"dog#{number}, above, box" for number in range(1, 9))
    with pytest.raises(SgfluxError, match="at most 5,040 ways"):
        judge.check([SceneGraph.parse(crowd)])
    judge.check([SceneGraph.parse("dog, above, dog#2")])
    judge.check([SceneGraph.parse(crowd.replace("above", "kicking"))])  # never asked about
    with pytest.raises(SgfluxError, match="multiple of 64"):
        judge.read(np.zeros((1, 60, 60, 3), np.uint8), [[Triple("man", "on", "horse")]])
    judge.check([SceneGraph.parse("Man, ride, horse")])
    assert all(map(judge.covers, PREDICATES))
    assert not judge.covers("kicking")
    assert not judge.covers("none"), "no relation is no predicate"


def test_a_statement_holds_by_the_most_likely_class() -> None:
    values = np.full(len(CLASSES), -5.0)
    values[CLASSES.index("riding")] = -0.2
    values[CLASSES.index("on")] = -1.0
    riding, alias = Triple("man", "riding", "horse"), Triple("Man", "ride", "horse")
    on, missing = Triple("man", "on", "horse"), Triple("man", "on", "cat")
    turned = Triple("horse", "riding", "man")
    reading = reading_of(
        [riding, alias, on, missing, turned],
        scores={
            ("man", "horse"): values,
            ("man", "cat"): values,
            ("horse", "man"): np.zeros(len(CLASSES)),
        },
        present=frozenset({"man", "horse"}),
    )
    assert reading.verdicts[riding].relation == "riding"
    assert reading.is_right(riding)
    assert reading.is_right(alias), "aliases and case do not matter"
    assert reading.verdicts[on].outcome is Outcome.CONTRADICTED
    assert reading.verdicts[missing].outcome is Outcome.NOT_FOUND
    assert reading.preference(riding, on) == 1.0
    assert reading.preference(on, riding) == 0.0
    assert reading.preference(riding, alias) == 0.5
    assert reading.preference(turned, riding) == 1.0
    assert reading.has_all(["Man", "horse"])
    assert not reading.has_all(["man", "cat"])


def test_statements_about_a_twin_that_is_not_there_are_not_found() -> None:
    judge = WorldJudgeAdapter.load()
    scene = render_relationships(np.random.default_rng(3), [("dog", "left of", "box")])
    dogs = SceneGraph.parse("dog, left of, box; dog#2, right of, box")
    (reading,) = judge.read([scene.image], [dogs.labelled_triples()])
    left, right = (reading.verdicts[triple] for triple in dogs.labelled_triples())
    assert left.outcome is Outcome.HOLDS
    assert (right.outcome, right.relation, right.score) == (Outcome.NOT_FOUND, "none", None)
    assert not reading.has_all(dogs.labels())
    assert reading.has_all(("dog", "box"))
    both = render_relationships(
        np.random.default_rng(3), [("dog", "left of", "box"), ("dog#2", "right of", "box")]
    )
    (reading,) = judge.read([both.image], [dogs.labelled_triples()])
    assert all(map(reading.is_right, dogs.labelled_triples()))
    assert reading.has_all(dogs.labels())


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
