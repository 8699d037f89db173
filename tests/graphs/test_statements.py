"""When two statements, or two graphs, are the same: a negative must never be.

If one of these failed, two wordings of one statement would count as different, and one of them as
false.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.graphs.merging import canonical_statement
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from tests.helpers.graph_strategies import scene_graphs
from tests.helpers.statements import equivalent, statements


@pytest.mark.parametrize(
    ("statement", "canonical"),
    [
        (("A", "above", "B"), ("A", "above", "B")),
        (("B", "Under", "A"), ("A", "above", "B")),
        (("A", "to the right of", "B"), ("B", "left of", "A")),
        (("A", "in front of", "B"), ("B", "behind", "A")),
        (("B", "next to", "A"), ("A", "around/near", "B")),
        (("B", "touching", "A"), ("A", "touching", "B")),
        (("B", "Riding", "A"), ("B", "riding", "A")),
        (("B", " Kicking", "A"), ("B", "kicking", "A")),
    ],
)
def test_canonical_statement(
    statement: tuple[str, str, str], canonical: tuple[str, str, str]
) -> None:
    assert canonical_statement(*statement, DEFAULT_VOCABULARY) == canonical


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("cup, above, table", "table, below, cup", True),
        ("cup, above, table", "table, above, cup", False),
        ("cup, above, table", "cup, below, table", False),
        ("man, near, dog", "Dog, beside, man", True),
        ("man, riding, horse; man, wearing, hat", "man, wears, hat; man, ride, horse", True),
        ("man, on, horse; man, wearing, hat", "man, on, horse; man#2, wearing, hat", False),
        ("dog, above, dog#2", "dog#2, above, dog", True),
        ("dog, on, mat; dog, above, dog#2", "dog, on, mat; dog#2, above, dog", False),
        ("dog, on, mat; dog, above, dog#2", "dog#2, on, mat; dog, below, dog#2", True),
        ("cup, above, table; table, below, cup", "cup, above, table", True),
        ("cup, above, table; (man)", "cup, above, table", False),
        # A ring of six and two rings of three look alike to every object.
        (
            "a, kicks, a#2; a#2, kicks, a#3; a#3, kicks, a; "
            "a#4, kicks, a#5; a#5, kicks, a#6; a#6, kicks, a#4",
            "a, kicks, a#2; a#2, kicks, a#3; a#3, kicks, a#4; "
            "a#4, kicks, a#5; a#5, kicks, a#6; a#6, kicks, a",
            False,
        ),
        ("", "", True),
    ],
)
def test_equivalent(a: str, b: str, same: bool) -> None:
    assert equivalent(SceneGraph.parse(a), SceneGraph.parse(b)) is same
    assert equivalent(SceneGraph.parse(b), SceneGraph.parse(a)) is same


@given(scene_graphs(), st.randoms(use_true_random=False))
def test_rewording_and_renumbering_change_nothing(graph: SceneGraph, rng: object) -> None:
    order = list(range(len(graph.objects)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    objects = [""] * len(order)
    for old, new in enumerate(order):
        objects[new] = graph.objects[old].upper()
    reworded = {}
    for subject, predicate, object_ in graph.relationships:
        inverse = DEFAULT_VOCABULARY.inverse(predicate)
        entry = (order[subject], predicate.upper(), order[object_])
        if inverse is not None:
            entry = (order[object_], inverse, order[subject])
        elif DEFAULT_VOCABULARY.is_symmetric(predicate):
            entry = (order[object_], predicate, order[subject])
        reworded[entry] = None
    other = SceneGraph(tuple(objects), tuple(reversed(reworded)))
    assert len(statements(graph)) == len(statements(other))
    assert equivalent(graph, other)
    assert equivalent(other, graph)


@given(scene_graphs())
def test_fewer_statements_are_not_the_same(graph: SceneGraph) -> None:
    distinct = statements(graph)
    fewer = SceneGraph(graph.objects, tuple(sorted(distinct))[1:])
    assert equivalent(graph, fewer) is (not distinct)
