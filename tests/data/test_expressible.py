"""What an encoder has no word for is left out, and said.

If one of these failed, a graph with words that the encoder does not have would be encoded as
something else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.data.expressible import keep_expressible
from sgflux.graphs.scene_graph import SceneGraph


def example(text: str, **fields: Any) -> SceneExample:
    graph = SceneGraph.parse(text)
    triple = graph.triples()[0]
    row = {
        "prompt": "a photo",
        "concepts": [triple.subject],
        "triple": vars(triple) | {},
        "meta": {"image_rel_path": "1.png"},
        "graph": graph.to_json(),
        **fields,
    }
    return SceneExample.from_json(row, open_vocabulary=True)


EXAMPLES = [
    example("man, riding, horse"),
    example("dog, left of, car"),
    example(
        "man, on, horse; horse, left of, dog", boxes=[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]
    ),
    example("zebra, on, grass"),
    example("man, on, horse; zebra, on, man", boxes=[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]),
]


def test_only_what_can_be_said_stays_and_the_rest_is_counted() -> None:
    known = {"man", "horse", "dog", "grass"}
    kept = keep_expressible(EXAMPLES, predicates={"riding", "on"}, knows_object=known.__contains__)
    assert [one.graph.to_text() for one in kept.examples] == [
        "man, riding, horse",
        "man, on, horse; (dog)",
        "man, on, horse",
    ]
    assert kept.rows == [0, 2, 4]
    assert kept.examples[0].graph is EXAMPLES[0].graph
    assert [len(one.boxes or ()) for one in kept.examples] == [0, 3, 2]
    assert kept.to_json() == {
        "predicates": {"left of": 1},
        "objects": {"zebra": 1},
        "relationships": {"left of": 1, "on": 1},
        "bystanders": {"zebra": 1},
    }
    assert kept.lines()[0] == (
        "1 examples left out, whose predicate the graph encoder lacks: left of 1"
    )
    assert kept.lines()[-1] == "3 of 5 examples are kept"


def test_without_a_question_about_objects_they_all_stay() -> None:
    kept = keep_expressible(EXAMPLES, predicates={"riding", "on", "left of"})
    assert kept.examples == EXAMPLES
    assert kept.lines() == []
    assert all(one is other for one, other in zip(kept.examples, EXAMPLES, strict=True))


def test_what_is_left_out_stays_true_of_the_picture() -> None:
    """No negative of a row may be what its picture shows, whoever can read the words for it."""
    kept = keep_expressible(EXAMPLES, predicates={"riding", "on"})
    lost = {"dog, left of, car", "horse, left of, dog"}
    for example in kept.examples:
        assert set(map(str, example.known_triples)) == lost
    every, left = (known_graphs(rows)["1.png", False] for rows in (EXAMPLES, kept.examples))
    assert set(every.triples()) == set(left.triples())
    elsewhere = dataclasses.replace(EXAMPLES[0], meta={"image_rel_path": "2.png"})
    alone, *_ = keep_expressible([elsewhere, *EXAMPLES], predicates={"riding"}).examples
    assert alone is elsewhere, "nothing of its picture is lost"
