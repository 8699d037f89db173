"""In which order a graph's statements are told: as one reads the picture that they describe."""

from __future__ import annotations

from functools import lru_cache

from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.graphs.statements import canonical_statement

_FROM_TOP_LEFT: dict[str, int] = {
    "above": -1,
    "below": 1,
    "hanging from": 1,
    "left of": -1,
    "on": -1,
    "riding": -1,
    "right of": 1,
    "sitting on": -1,
    "standing on": -1,
}
"""How much further from the top left of a picture a subject stands than its object, in steps.

Predicates whose words do not say so are left out.
"""


def reading_order(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> list[int]:
    """Indices of the relationships, first what stands nearer to the top left as far as they say.

    A graph has no order, but a text does, and who draws from it puts the first thing first:
    whatever needs an order takes this one, so that equal graphs are told alike and as a picture of
    them would be described. Every object gets the distance from the top left that agrees best with
    all the predicates that say how their subject stands (least squares; each group of connected
    objects has its mean at zero). Statements are sorted by the distances of their two objects,
    those of one distance by the names in their canonical form.
    """
    names = [name.casefold() for name in graph.objects]

    def stated(index: int) -> tuple[object, ...]:
        subject, predicate, object_ = entry = graph.relationships[index]
        return *canonical_statement(names[subject], predicate, names[object_], vocabulary), entry

    order = sorted(range(len(graph.relationships)), key=stated)
    if len(order) < 2:
        return order
    # Things get their numbers as they are told: the graph's own must not show in the rounding.
    told = [graph.relationships[index] for index in order]
    number = {
        index: place
        for place, index in enumerate(dict.fromkeys(i for s, _, o in told for i in (s, o)))
    }
    steps = tuple(
        (number[subject], number[object_], _FROM_TOP_LEFT.get(vocabulary.normalize(predicate), 0))
        for subject, predicate, object_ in told
    )
    places = _places(steps)
    distance = {
        index: round(places[subject] + places[object_], 6)
        for index, (subject, object_, _) in zip(order, steps, strict=True)
    }
    return sorted(order, key=distance.__getitem__)


@lru_cache(maxsize=2**12)
def _places(steps: tuple[tuple[int, int, int], ...]) -> tuple[float, ...]:
    """Places p of least sum of (p[a] - p[b] - step)^2 over all (a, b, step).

    Each connected group has its mean at zero.
    """
    count = 1 + max(max(a, b) for a, b, _ in steps)
    group = list(range(count))
    for a, b, _ in steps:
        old, new = group[b], group[a]
        group = [new if one == old else one for one in group]
    # The normal equations, positive definite by the groups' means; the right side comes last.
    rows = [[float(one == other) for other in group] + [0.0] for one in group]
    for a, b, step in steps:
        for here, there, sign in ((a, b, 1), (b, a, -1)):
            rows[here][here] += 1
            rows[here][there] -= 1
            rows[here][-1] += sign * step
    for i in range(count):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(count):
            factor = rows[j][i]
            if j != i and factor:
                rows[j] = [mine - factor * its for mine, its in zip(rows[j], rows[i], strict=True)]
    return tuple(row[-1] for row in rows)
