"""When two graphs state the same: the yardstick of tests that make one graph of another."""

from __future__ import annotations

from typing import Any

from sgflux.graphs.merging import canonical_statement
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph

Statement = tuple[int, str, int]
"""A relationship in the one form that all its rewritings share."""


def statements(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> frozenset[Statement]:
    """Return the graph's statements in their canonical forms, over object indices."""
    return frozenset(canonical_statement(*entry, vocabulary) for entry in graph.relationships)


def equivalent(
    graph_a: SceneGraph,
    graph_b: SceneGraph,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
) -> bool:
    """Whether two graphs have the same objects and state the same of them.

    The order of objects and of relationships is irrelevant, and so are case, the numbers of
    equally named objects, aliases, inverses, symmetry, and saying the same thing twice. Objects
    without a relationship count.
    """
    graphs = (graph_a, graph_b)
    names = [[name.casefold() for name in graph.objects] for graph in graphs]
    stated = [statements(graph, vocabulary) for graph in graphs]
    if sorted(names[0]) != sorted(names[1]) or len(stated[0]) != len(stated[1]):
        return False
    colors_a, colors_b = _refine(names, stated, vocabulary)

    def can_extend(mapping: dict[int, int]) -> bool:
        """Whether ``mapping`` (a -> b) can be extended to one that carries all statements over."""
        node = len(mapping)
        if node == len(colors_a):
            return True
        own = [statement for statement in stated[0] if max(statement[0], statement[2]) == node]
        for image in range(len(colors_b)):
            if colors_b[image] != colors_a[node] or image in mapping.values():
                continue
            mapping[node] = image
            # There are equally many: it is enough that every statement of a is one of b.
            if all(
                canonical_statement(mapping[s], predicate, mapping[o], vocabulary) in stated[1]
                for s, predicate, o in own
            ) and can_extend(mapping):
                return True
            del mapping[node]
        return False

    return sorted(colors_a) == sorted(colors_b) and can_extend({})


def _refine(
    names: list[list[str]], stated: list[frozenset[Statement]], vocabulary: PredicateVocabulary
) -> list[list[int]]:
    """Color objects of both graphs by name, then by the colors around them, until stable."""
    palette: dict[Any, int] = {}
    colors = [[palette.setdefault(name, len(palette)) for name in side] for side in names]
    while True:
        around: list[list[list[Any]]] = [[[] for _ in side] for side in names]
        for side, own in enumerate(stated):
            for subject, predicate, object_ in own:
                # Which side of a symmetric statement comes first is an accident of numbering.
                back = "to" if vocabulary.is_symmetric(predicate) else "from"
                around[side][subject].append(("to", predicate, colors[side][object_]))
                around[side][object_].append((back, predicate, colors[side][subject]))
        palette_next: dict[Any, int] = {}
        refined = [
            [
                palette_next.setdefault((color, tuple(sorted(near))), len(palette_next))
                for color, near in zip(colors[side], around[side], strict=True)
            ]
            for side in range(len(names))
        ]
        if len(palette_next) == len({color for side in colors for color in side}):
            return refined
        colors = refined
