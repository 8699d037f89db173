"""In which order statements are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.data.world import sample_scene
from sgflux.graphs.reading_order import _places, reading_order
from sgflux.graphs.scene_graph import SceneGraph

from .strategies import scene_graphs


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
