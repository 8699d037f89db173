"""In which order statements are told.

If one of these failed, equal graphs would be told in different orders, and an encoder that
numbers statements would see different graphs.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.data.reading_order import MAX_TOLD, _places, reading_order
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.world.scenes import sample_scene
from tests.helpers.graph_strategies import scene_graphs


def _told(graph: SceneGraph) -> list[str]:
    return [str(graph.triples()[index]) for index in reading_order(graph)]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        # Who is right of somebody comes after whom that one is right of.
        ("ball, right of, tree; tree, right of, car", [1, 0]),
        ("car, left of, tree; tree, left of, ball", [0, 1]),
        # The cup hangs below the hat and is above the car.
        ("cup, above, car; cup, hanging from, hat", [1, 0]),
        ("box, standing on, horse; horse, above, car", [0, 1]),
        # In words of any kind.
        ("hat, beneath, man; dog, higher than, hat; man, underneath, dog", [2, 1, 0]),
        # Where predicates do not say it, and of groups that share nothing: by their names.
        ("man, using, box; dog, eating, man", [1, 0]),
        ("man, holding, Dog; cup, on, box; Man, holding, cat", [1, 2, 0]),
    ],
)
def test_first_comes_what_stands_nearer_to_the_top_left(text: str, order: list[int]) -> None:
    assert reading_order(SceneGraph.parse(text)) == order


def test_the_same_in_inverse_words_comes_in_the_same_place() -> None:
    graph = SceneGraph.parse("ball, right of, tree; tree, right of, car; hat, behind, cup")
    inverse = SceneGraph.parse("tree, left of, ball; car, left of, tree; cup, in front of, hat")
    assert reading_order(graph) == reading_order(inverse) == [1, 2, 0]
    for text in ("hat, behind, cup; dog, using, box", "cup, in front of, hat; dog, using, box"):
        assert reading_order(SceneGraph.parse(text)) == [1, 0], "by the names of one form"


def test_statements_that_contradict_each_other_have_an_order_all_the_same() -> None:
    round_about = SceneGraph.parse("a, above, b; b, above, c; c, above, a")
    assert sorted(reading_order(round_about)) == [0, 1, 2]
    assert reading_order(SceneGraph.null()) == []


def test_places_are_those_of_least_squares() -> None:
    assert _places(((0, 1, -1), (1, 2, -1))) == pytest.approx((-1, 0, 1))
    # Three equations that do not agree: 1 and 1 make 2, not 1.
    assert _places(((0, 1, -1), (1, 2, -1), (0, 2, -1))) == pytest.approx((-2 / 3, 0, 2 / 3))
    assert _places(((0, 1, -1), (2, 3, 0), (3, 4, 1))) == pytest.approx(
        (-1 / 2, 1 / 2, 1 / 3, 1 / 3, -2 / 3)
    )


def test_places_of_large_groups_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    for things, count in ((60, 59), (80, 120), (100, 700)):
        steps = [(i, int(rng.integers(i)), int(rng.integers(-1, 2))) for i in range(1, things)]
        while len(steps) < count:
            a, b = rng.choice(things, 2, replace=False).tolist()
            steps.append((a, b, int(rng.integers(-1, 2))))
        matrix, wanted = np.zeros((count, things)), np.zeros(count)
        for row, (a, b, step) in enumerate(steps):
            matrix[row, a], matrix[row, b], wanted[row] = 1, -1, step
        best = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        assert _places(tuple(steps)) == pytest.approx(best - best.mean(), abs=1e-8)


@pytest.mark.parametrize("links", [1, 2, 5])
def test_thousands_of_relationships_are_ordered_in_no_time(links: int) -> None:
    rng = np.random.default_rng(0)
    things = MAX_TOLD // links
    pairs = {(i, int(rng.integers(max(0, i - 9), i))) for i in range(1, things)}
    while len(pairs) < MAX_TOLD - 5:
        a, b = rng.choice(things, 2, replace=False).tolist()
        pairs.add((a, b))
    graph = SceneGraph(
        objects=tuple(f"o{i}" for i in range(things)),
        relationships=tuple((a, "on", b) for a, b in sorted(pairs)),
    )
    started = time.process_time()
    assert len(reading_order(graph)) == len(pairs)
    assert time.process_time() - started < 5, "the cubic solution takes more than an hour"


def test_a_graph_of_more_relationships_than_can_be_told_is_refused() -> None:
    graph = SceneGraph(
        objects=tuple(f"o{i}" for i in range(MAX_TOLD + 2)),
        relationships=tuple((i, "on", i + 1) for i in range(MAX_TOLD + 1)),
    )
    with pytest.raises(SceneGraphError, match="5,001 relationships, more than the 5,000"):
        reading_order(graph)


@given(scene_graphs(), st.randoms(use_true_random=False))
def test_it_does_not_depend_on_the_order_in_the_graph(graph: SceneGraph, rng: object) -> None:
    shuffled = list(graph.relationships)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = SceneGraph(objects=graph.objects, relationships=tuple(shuffled))
    told = [[one.relationships[index] for index in reading_order(one)] for one in (graph, again)]
    assert told[0] == told[1]


def test_it_is_mostly_the_order_in_which_a_picture_is_read() -> None:
    rng = np.random.default_rng(5)
    agree, count = 0, 0
    while count < 200:
        scene = sample_scene(rng, triples=2)
        if len(scene.objects) == 3:
            told = _told(scene.graph())
            agree += told == [str(triple) for triple in scene.in_reading_order().triples()]
            count += 1
    assert agree / count > 0.65  # by their names alone: 0.5
