"""Objects of one name, and the ways to tell them apart.

If one of these failed, a judge would try too few ways to take what it found for two dogs.
"""

from __future__ import annotations

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.graphs.twins import by_name, connected, labels_of, number_of_ways, ways

GRAPH = SceneGraph.parse("Dog, on, box; dog#2, left of, cup; man, holding, hat; hat, above, box#2")


def test_labels_come_in_order_of_mention_and_in_lower_case() -> None:
    labels = labels_of(GRAPH.labelled_triples())
    assert labels == ["dog", "box", "dog#2", "cup", "man", "hat", "box#2"]
    assert by_name(labels)["dog"] == ["dog", "dog#2"]
    assert number_of_ways(labels) == 4


def test_every_way_to_share_out_what_was_found() -> None:
    found = {"dog": ["left", "right", "third"], "cup": ["only"], "man": []}
    taken = list(ways(["dog", "cup", "dog#2", "man"], found))
    assert taken == [
        {"dog": "left", "dog#2": "right", "cup": "only"},
        {"dog": "right", "dog#2": "left", "cup": "only"},
    ], "of three dogs the two surest are taken, and there is no man"
    assert list(ways(["dog", "dog#2"], {"dog": ["left"]})) == [{"dog": "left"}, {"dog#2": "left"}]


def test_statements_that_share_a_name_belong_together() -> None:
    first, second, third, fourth = GRAPH.labelled_triples()
    assert connected(GRAPH.labelled_triples()) == [[first, second, third, fourth]]
    assert connected([second, third, first]) == [[second, first], [third]]
