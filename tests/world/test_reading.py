"""What the bundled judge reads of twins, and where it looks for them.

If one of these failed, a picture of one dog would pass for one of two, or a statement about one dog
would be read off the other one.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.generators import WorldGenerator
from sgflux.world.judge import CLASSES, WorldJudge, read_judge, to_judge_images
from sgflux.world.reading import Relations, class_index, find_places, read_relations
from sgflux.world.scenes import render_relationships


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return read_judge()[0]


def read(judge: WorldJudge, shown: str, asked: str, seeds: int = 8) -> list[Relations]:
    """Ask about pictures that show a graph what another graph states."""
    triples = [
        (one.subject, one.predicate, one.object)
        for one in SceneGraph.parse(shown).labelled_triples()
    ]
    images = [
        render_relationships(np.random.default_rng((3, seed)), triples).image
        for seed in range(seeds)
    ]
    statements = [SceneGraph.parse(asked).labelled_triples()] * seeds
    return read_relations(judge, to_judge_images(images), statements)


def right(readings: list[Relations], asked: str) -> float:
    """Share of pictures of which all statements hold."""
    stated = SceneGraph.parse(asked).labelled_triples()
    return float(
        np.mean(
            [
                all(
                    pair in reading.scores
                    and reading.scores[pair].argmax() == class_index(one.predicate)
                    for one in stated
                    for pair in [(one.subject, one.object)]
                )
                for reading in readings
            ]
        )
    )


def test_places_do_not_touch_and_the_surest_comes_first() -> None:
    logits = np.full((16, 16), -3.0)
    logits[2:4, 2:4] = 1.0
    logits[2:5, 9:12] = 2.0
    logits[5, 12] = 2.0  # touches the second one at a corner only
    large, small, corner = find_places(logits.ravel(), 5)
    assert large.reshape(16, 16)[2:5, 9:12].all()
    assert (large.sum(), small.sum(), corner.sum()) == (9, 4, 1)
    assert len(find_places(logits.ravel(), 2)) == 2
    assert find_places(np.full(256, -1.0), 2) == []


def test_twins_are_told_apart_by_what_is_said_of_them(judge: WorldJudge) -> None:
    shown = "dog, riding, box; dog#2, carrying, cup; dog#2, left of, hat"
    assert right(read(judge, shown, shown), shown) >= 0.75
    exchanged = "dog#2, riding, box; dog, carrying, cup; dog, left of, hat"
    assert right(read(judge, shown, exchanged), exchanged) >= 0.75, "labels say nothing"
    wrong = "dog, riding, box; dog#2, carrying, cup; dog, left of, hat"
    assert right(read(judge, shown, wrong), wrong) == 0.0, "the dog with the cup is left of the hat"


def test_one_of_two_twins_alone_is_not_both(judge: WorldJudge) -> None:
    asked = "dog, left of, box; dog#2, above, cup"
    for reading in read(judge, "dog, left of, box; kite, above, cup", asked):
        assert "dog" in reading.present
        assert "dog#2" not in reading.present
        assert len(reading.scores) == 1, "one of the two statements is about no dog"
    for reading in read(judge, "dog, left of, box; dog#2, above, cup", asked):
        assert {"dog", "dog#2", "box", "cup"} <= reading.present
        assert len(reading.scores) == 2


def test_cells_say_which_object_is_meant(judge: WorldJudge) -> None:
    scene = render_relationships(
        np.random.default_rng(1), [("man", "left of", "box"), ("man#2", "right of", "box")]
    )
    features = judge.encode(to_judge_images([scene.image]))
    names = torch.tensor([[0]]), torch.tensor([[7]])
    left = torch.zeros(16, 16, dtype=torch.bool)
    left[:, :6] = True
    everywhere = torch.ones(1, 1, 256, dtype=torch.bool)
    said = [
        CLASSES[judge.relation_logits(features, *names, **cells)[0, 0].argmax()]
        for cells in (
            {"subject_cells": left.view(1, 1, 256), "object_cells": everywhere},
            {"subject_cells": left.flip(1).view(1, 1, 256), "object_cells": everywhere},
        )
    ]
    assert said == ["left of", "right of"]
    torch.testing.assert_close(
        judge.relation_logits(features, *names),
        judge.relation_logits(features, *names, subject_cells=everywhere, object_cells=everywhere),
        rtol=0,
        atol=0,
    )


def test_the_oracle_draws_both_twins(judge: WorldJudge) -> None:
    """Would fail if the generator that tests the evaluation drew one dog for two."""
    graph = SceneGraph.parse("dog, riding, box; dog#2, carrying, cup; dog#2, left of, hat")
    requests = [
        SimpleNamespace(seed=seed, graph=graph, text=graph, prompt="", place=f"line {seed}")
        for seed in range(6)
    ]
    images = to_judge_images(WorldGenerator("oracle").draw(requests))
    statements = graph.labelled_triples()
    readings = read_relations(judge, images, [statements] * 6)
    assert right(readings, graph.to_text()) >= 0.75
