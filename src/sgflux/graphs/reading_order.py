"""In which order a graph's statements are told: as one reads the picture that they describe."""

from __future__ import annotations

import numpy as np

from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.graphs.statements import canonical_statement

_SUBJECT_STANDS: dict[str, tuple[int, int]] = {
    "above": (0, -1),
    "below": (0, 1),
    "hanging from": (0, 1),
    "left of": (-1, 0),
    "on": (0, -1),
    "riding": (0, -1),
    "right of": (1, 0),
    "sitting on": (0, -1),
    "standing on": (0, -1),
}
"""Where a subject stands, seen from its object: steps to the right and down.

Predicates whose words do not say so are left out.
"""


def reading_order(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> list[int]:
    """Indices of the relationships, first what stands nearer to the top left as far as they say.

    A graph has no order, but a text does, and who draws from it puts the first thing first:
    whatever needs an order takes this one, so that equal graphs are told alike and as a picture of
    them would be described. Every object gets the place that agrees best with all the predicates
    that say where their subject stands (least squares; each group of connected objects has its
    middle at zero). Statements are sorted by the places of their two objects, those of one place by
    the names in their canonical form.
    """
    names = [name.casefold() for name in graph.objects]

    def stated(index: int) -> tuple[object, ...]:
        subject, predicate, object_ = entry = graph.relationships[index]
        return *canonical_statement(names[subject], predicate, names[object_], vocabulary), entry

    order = sorted(range(len(graph.relationships)), key=stated)
    if len(order) < 2:
        return order
    # Equations and unknowns in an order of their own: the graph's must not show in the rounding.
    told = [graph.relationships[index] for index in order]
    column = {
        index: place
        for place, index in enumerate(dict.fromkeys(i for s, _, o in told for i in (s, o)))
    }
    differences = np.zeros((len(told), len(column)))
    steps = np.zeros((len(told), 2))
    for row, (subject, predicate, object_) in enumerate(told):
        differences[row, column[subject]], differences[row, column[object_]] = 1, -1
        steps[row] = _SUBJECT_STANDS.get(vocabulary.normalize(predicate), (0, 0))
    places = np.linalg.lstsq(differences, steps, rcond=None)[0].sum(1)
    distances = [
        round(float(places[column[subject]] + places[column[object_]]), 6)
        for subject, _, object_ in told
    ]
    return [index for _, index in sorted(zip(distances, order, strict=True), key=lambda p: p[0])]
