"""Order in which a graph's statements are written: from the top left of the described picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sgflux.graphs.merging import canonical_statement
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError

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


MAX_TOLD = 5000
"""Relationships of a graph that can be told: no text and no encoder is of use for more."""

_FEW = 100
"""Number of objects up to which their positions are solved densely."""


def reading_order(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> list[int]:
    """Return the indices of the relationships, first what stands nearer to the top left.

    A graph has no order, but a text does, and who draws from it puts the first thing first:
    whatever needs an order takes this one, so that equal graphs are told alike and as a picture of
    them would be described. Every object gets the distance from the top left that agrees best with
    all the predicates that say how their subject stands (least squares; each group of connected
    objects has its mean at zero). Statements are sorted by the distances of their two objects,
    those of one distance by the names in their canonical form.

    Raises:
        SceneGraphError: if the graph has more than :data:`MAX_TOLD` relationships.
    """
    if len(graph.relationships) > MAX_TOLD:
        raise SceneGraphError(
            f"the graph has {len(graph.relationships):,} relationships, more than the "
            f"{MAX_TOLD:,} that a graph may have; leave some out or make several graphs of it"
        )
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
    found = _places(steps)
    distance = {
        index: round(found[subject] + found[object_], 6)
        for index, (subject, object_, _) in zip(order, steps, strict=True)
    }
    return sorted(order, key=distance.__getitem__)


@lru_cache(maxsize=2**12)
def _places(steps: tuple[tuple[int, int, int], ...]) -> tuple[float, ...]:
    """Return the positions p, (n,), that minimise sum (p[a] - p[b] - step)^2 over all (a, b, step).

    Of all such positions these are the smallest, whose mean is zero in each connected group. The
    same graphs come again: what was solved is kept.

    Args:
        steps: Steps (a, b, step), at least one: a stands ``step`` further on than b. The things are
            numbered from 0, and each is in some step.
    """
    subjects, objects, wanted = np.array(steps).T
    row, things = np.arange(len(steps)), 1 + max(subjects.max(), objects.max())
    if things <= _FEW:
        links = np.zeros((len(steps), things))
        links[row, subjects], links[row, objects] = 1.0, -1.0
        return tuple(np.linalg.lstsq(links, wanted)[0].tolist())
    from scipy import sparse
    from scipy.sparse.linalg import lsqr

    ends = np.tile(row, 2), np.concatenate([subjects, objects])
    signs = np.repeat([1.0, -1.0], len(steps))
    links = sparse.csr_array((signs, ends))
    return tuple(lsqr(links, wanted, atol=1e-14, btol=1e-14, iter_lim=20 * things)[0].tolist())
