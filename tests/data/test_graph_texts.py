"""Wordings of whole graphs: each states every statement, and says which of two twins is meant.

If one of these failed, the base would be told less than the graph, and comparing an adapter with
it would favour the adapter.
"""

from __future__ import annotations

import random

import pytest

from sgflux.data.graph_texts import WORDINGS
from sgflux.data.prompts import prompt_for, prompts_for_graph
from sgflux.data.reading_order import reading_order
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES
from sgflux.world.shapes import shapes_of
from tests.helpers.graph_examples import example

FOUR = "cup, on, plate; cup#2, on, plate; cup#3, left of, cup; plate, on, table"


@pytest.mark.parametrize(
    ("graph", "wording", "text"),
    [
        ("man, riding, horse", "articles", "a photo of a man riding a horse"),
        ("man, riding, horse", "sentences", "A man is riding a horse."),
        ("owl, around/near, glasses", "articles", "a photo of an owl near glasses"),
        (
            "dog, around/near, man; man, wearing, hat; man, riding, horse",
            "joined",
            "a photo of a dog near a man, and the man wearing a hat and riding a horse",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "plain",
            "a photo of dog left of another dog and second dog above cat and owl",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "terse",
            "a photo of dog left of another dog and second dog above cat and owl",
        ),
        (
            "man, wearing, hat; dog, around/near, man",
            "terse",
            "a photo of dog near man and man wearing hat",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "articles",
            "a photo of a dog to the left of another dog and the second dog above a cat and an owl",
        ),
        (
            "dog, left of, dog#2; dog#2, above, cat; (owl)",
            "listed",
            "a photo of a dog, another dog, a cat and an owl: the first dog is to the left of the "
            "second dog, the second dog is above the cat",
        ),
        (
            FOUR,
            "sentences",
            "A cup is to the left of another cup. The second cup is on a plate. A third cup is on "
            "the plate. The plate is on a table.",
        ),
    ],
)
def test_texts_of_graphs(graph: str, wording: str, text: str) -> None:
    assert WORDINGS[wording](example(graph)) == text


def test_the_plain_text_of_one_statement_is_the_rows_own() -> None:
    assert WORDINGS["plain"](example("man, riding, horse")) == "a photo of man riding horse"
    benchmark = example("man, riding, horse; man, wearing, hat").with_meta(benchmark={"name": "x"})
    assert WORDINGS["plain"](benchmark) == benchmark.prompt, "its prompt states the whole graph"


def test_every_text_of_relations_tells_twins_apart() -> None:
    """The teacher of L_words and the contradicting text would speak of two dogs as of one."""
    graph = SceneGraph.parse("dog, left of, cat; dog#2, above, cat; dog#2, touching, box")
    text = "a photo of dog left of cat and another dog above cat and second dog touching box"
    assert prompts_for_graph(graph, "relational") == text
    # In reading order another dog is mentioned first.
    assert prompt_for(example(graph.to_text()), "relational") == (
        "a photo of dog touching box and first dog above cat and another dog left of cat"
    )
    assert prompts_for_graph(graph, "neutral") == "a photo of dog and cat and dog and box"
    one = SceneGraph.parse("dog, left of, dog#2")
    assert prompts_for_graph(one, "relational") == "a photo of dog left of dog"


@pytest.mark.parametrize("statements", [1, 2, 3, 4])
def test_texts_of_graphs_without_twins_are_what_they_were(statements: int) -> None:
    """Another text would change every training, cache and picture of such graphs."""
    shapes = shapes_of(statements, twins=False)
    for seed in range(24 * len(shapes)):
        rng, edges = random.Random(seed), shapes[seed % len(shapes)].edges
        graph = SceneGraph(
            tuple(rng.sample(OBJECT_NAMES, 1 + max(map(max, edges)))),
            tuple((one, rng.choice(PREDICATES), other) for one, other in edges),
        )
        names = graph.objects
        parts = [
            f"{names[s]} {'near' if predicate == 'around/near' else predicate} {names[o]}"
            for s, predicate, o in graph.relationships
        ]
        assert prompts_for_graph(graph, "relational") == f"a photo of {' and '.join(parts)}"
        row = example(graph.to_text())
        ordered = " and ".join(parts[index] for index in reading_order(graph))
        assert prompt_for(row, "relational") == f"a photo of {ordered}"
        assert prompt_for(row, "relational") == WORDINGS["terse"](row)
