"""Shapes of graphs: equal names for equal shapes, and for no others.

If one of these failed, a shape that is held out would be trained on under another name.
"""

from __future__ import annotations

import itertools

import networkx
import pytest

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.shapes import Edge, Shape, shape_name, shape_of, shapes_of


def forests(statements: int) -> list[tuple[Edge, ...]]:
    """Every way to write a graph of so many statements without rings down."""
    grown: list[tuple[Edge, ...]] = [((0, 1),)]
    for _ in range(statements - 1):
        grown = [
            (*edges, edge)
            for edges in grown
            for new in [1 + max(itertools.chain(*edges))]
            for edge in (*((old, new) for old in range(new)), (new, new + 1))
        ]
    return grown


def as_graph(shape: Shape) -> networkx.Graph:
    graph = networkx.Graph(shape.edges)
    networkx.set_node_attributes(graph, {i: i in (shape.twins or ()) for i in graph}, "twin")
    return graph


def are_equal(first: Shape, second: Shape) -> bool:
    return networkx.is_isomorphic(
        as_graph(first), as_graph(second), node_match=lambda a, b: a["twin"] == b["twin"]
    )


@pytest.mark.parametrize(
    ("statements", "plain", "with_twins"), [(1, 1, 0), (2, 2, 2), (3, 4, 7), (4, 8, 25)]
)
def test_names_are_equal_exactly_where_shapes_are(
    statements: int, plain: int, with_twins: int
) -> None:
    by_name: dict[str, Shape] = {}
    for edges in forests(statements):
        pairs = itertools.combinations(range(1 + max(itertools.chain(*edges))), 2)
        for twins in (None, *(pair for pair in pairs if pair not in edges)):
            shape = Shape(edges, twins)
            assert are_equal(by_name.setdefault(shape.name, shape), shape)
    assert not any(are_equal(*two) for two in itertools.combinations(by_name.values(), 2))
    drawn = [shapes_of(statements, twins=twins) for twins in (False, True)]
    assert [len(shapes) for shapes in drawn] == [plain, with_twins]
    assert {shape.name for shapes in drawn for shape in shapes} == set(by_name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("man, riding, horse", "pair"),
        ("man, riding, horse; (tree)", "pair"),
        ("man, riding, horse; cup, on, box", "2 pairs"),
        ("man, riding, horse; hat, on, man; cup, on, box", "pair + chain of 2"),
        ("cup, on, box; cup, above, dog; cup, left of, hat", "star of 3"),
        ("dog, on, box; dog#2, left of, box", "chain of 2 with twins: end and end, 2 apart"),
        (
            "man, riding, horse; dog, left of, horse; dog#2, right of, horse; man, holding, cup",
            "fork of 4 with twins: end and end, 2 apart",
        ),
        (
            "dog, on, box; Dog#2, left of, hat; hat, above, cup",
            "pair + chain of 2 with twins: end of chain of 2 and end of pair, in two groups",
        ),
        ("a, on, b; b, on, c; c, on, a", "group of 3 with degrees 2-2-2"),
        ("a, on, b; a, left of, b", "group of 2 with degrees 2-2"),
    ],
)
def test_a_graph_is_named_by_its_statements_and_twins(text: str, name: str) -> None:
    assert shape_of(SceneGraph.parse(text)) == name


def test_an_unknown_shape_is_refused_with_the_nearest_names() -> None:
    """There are some hundred names, which nobody reads."""
    with pytest.raises(SgfluxError, match=r"near are .*'chain of 3'") as caught:
        shape_name("chane of 3")
    assert len(str(caught.value)) < 600
