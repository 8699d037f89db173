"""A drawn graph is the graph that is given to the model, and no step of the drawing is lost.

If one of these failed, the picture would obey another graph than the one on the page, the views of
the page would disagree, or undo would lose work.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.web.sketch import MAX_OBJECTS, Edge, Node, Sketch, Timeline

DOGS = SceneGraph.parse("dog, above, box; dog, left of, dog#2")


def test_a_sketch_has_the_graph_that_it_was_made_of() -> None:
    sketch = Sketch().with_graph(DOGS)
    assert sketch.graph() == DOGS
    assert Sketch.from_json(sketch.to_json()) == sketch
    assert len({(node.x, node.y) for node in sketch.nodes}) == 3


def test_objects_keep_their_place_when_the_text_changes() -> None:
    """The second dog is found by its label, although its name is that of the first."""
    drawn = Sketch(
        (Node("n1", "dog", 5, 6), Node("n7", "box", 70, 8), Node("n2", "dog", 9, 99)),
        (Edge("n1", "above", "n7"),),
    )
    graph = SceneGraph.parse("cat, riding, dog#2; dog, on, box")
    after = drawn.with_graph(graph)
    assert after.graph() == graph
    places = dict(zip(graph.labels(), after.nodes, strict=True))
    assert (places["dog"].id, places["dog"].x, places["dog"].y) in (("n1", 5, 6), ("n2", 9, 99))
    assert {node.id for node in after.nodes} >= {"n1", "n2", "n7"}
    assert len({node.id for node in after.nodes}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": None}, "no sketch"),
        ({"nodes": [{"id": "n1", "name": "dog", "x": 0}]}, "no sketch"),
        ({"nodes": [{"id": "n1", "name": "dog", "x": math.nan, "y": 0}]}, "finite"),
        ({"edges": [{"source": "n1", "predicate": "on", "target": "n9"}]}, "go together"),
        (
            {"nodes": [{"id": f"n{i}", "name": "dog", "x": 0, "y": 0} for i in range(99)]},
            f"at most {MAX_OBJECTS}",
        ),
    ],
)
def test_what_no_editor_sends_is_refused(change: dict[str, Any], message: str) -> None:
    good = Sketch().with_graph(SceneGraph.parse("dog, on, box")).to_json()
    Sketch.from_json(good)
    with pytest.raises(SceneGraphError, match=message):
        Sketch.from_json({**good, **change})


def test_a_number_behind_a_name_is_no_part_of_it() -> None:
    value = {"nodes": [{"id": "a", "name": " dog#2 ", "x": 0, "y": 0}], "edges": []}
    assert Sketch.from_json(value).graph().objects == ("dog",)


def test_every_change_can_be_undone_and_redone() -> None:
    timeline = Timeline()
    sketches = [Sketch().with_graph(SceneGraph.parse(f"(o{i})")) for i in range(3)]
    assert all(timeline.draw(sketch) for sketch in sketches)
    assert not timeline.draw(sketches[-1]), "nothing changed"
    timeline.undo()
    timeline.undo()
    assert timeline.now == sketches[0]
    timeline.redo()
    assert (timeline.now, timeline.can_redo) == (sketches[1], True)
    assert timeline.draw(sketches[0])
    assert not timeline.can_redo, "a new drawing has no future"
    for _ in range(9):
        timeline.undo()
    assert (timeline.now, timeline.can_undo) == (Sketch(), False)
