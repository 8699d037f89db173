"""The count of statements that boxes obey, on boxes that can be drawn on paper.

If one of these failed, the printed shares would not be those of the boxes.
"""

from __future__ import annotations

from layouts import Obeyed, count_obeyed, obeyed, of_others

from sgflux.data.boxes import Box, Layout
from sgflux.graphs.scene_graph import SceneGraph

UPPER, LOWER = Box(0.4, 0.0, 0.2, 0.2), Box(0.4, 0.7, 0.2, 0.2)
ABOVE = SceneGraph.parse("cat, above, dog; cat, below, dog; cat, eating, dog")


def test_statements_with_a_rule_and_two_known_boxes_are_counted() -> None:
    graph = SceneGraph.parse("dog, above, cat; dog, left of, cat; man, wearing, hat; man, on, cat")
    dog, cat = Box(0.4, 0.1, 0.2, 0.2), Box(0.4, 0.6, 0.2, 0.2)
    boxes = {"dog": dog, "cat": cat, "man": None, "hat": Box(0, 0, 0.1, 0.1)}
    assert obeyed(graph, tuple(boxes[name] for name in graph.objects)) == [True, False]


def test_geometric_statements_are_counted_and_others_are_not() -> None:
    right = SceneGraph.parse("cat, above, dog; dog, eating, cat")
    assert count_obeyed([right], [(UPPER, LOWER)]) == Obeyed(1, 1, 1, 1)
    assert count_obeyed([right], [(LOWER, UPPER)]) == Obeyed(0, 1, 0, 1)
    both: list[Layout | None] = [(UPPER, LOWER), (LOWER, UPPER)]
    assert count_obeyed([ABOVE, right], both) == Obeyed(1, 3, 0, 2)


def test_unknown_boxes_count_nothing() -> None:
    graph = SceneGraph.parse("cat, above, dog")
    assert count_obeyed([graph, graph], [(UPPER, None), None]) == Obeyed()


def test_chance_has_the_boxes_of_another_row_of_as_many_objects() -> None:
    one, two, lonely = (UPPER, LOWER), (LOWER, UPPER), (UPPER,)
    assert of_others([one, lonely, two]) == [two, None, one]
