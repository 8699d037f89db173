"""Objects of one name, which only the statements about them tell apart.

Labels are those of :meth:`SceneGraph.labels`: "dog" and "dog#2" are two dogs. Whoever finds two
dogs in a picture does not know which one is "dog": every way to take the dogs that were found for
the labels is tried, and the one in which most statements hold is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from sgflux.graphs.merging import Relationship
from sgflux.graphs.scene_graph import Triple, name_of_label

MAX_WAYS = 5_040
"""Number of ways to tell objects of equal names apart that are tried; seven have so many."""

Found = TypeVar("Found")


def labels_of(statements: Iterable[Triple]) -> list[str]:
    """Return the labels in statements, in lower case, each once, in order of mention."""
    both = ((one.subject.casefold(), one.object.casefold()) for one in statements)
    return list(dict.fromkeys(itertools.chain.from_iterable(both)))


def by_name(labels: Iterable[str]) -> dict[str, list[str]]:
    """Return name -> the labels of the objects that are called so."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(name_of_label(label), []).append(label)
    return groups


def number_of_ways(labels: Iterable[str]) -> int:
    """Return the number of ways to tell the objects of these labels apart."""
    return math.prod(math.factorial(len(group)) for group in by_name(labels).values())


def ways(labels: Iterable[str], found: Mapping[str, Sequence[Found]]) -> Iterator[dict[str, Found]]:
    """Yield every way to take what was found for the labels: label -> one of its name.

    Args:
        labels: Labels of objects, each once.
        found: Name -> what was found of it, the surest first. Of more things than labels the first
            ones are taken; where things are missing, each label goes without one in turn.
    """
    orders = []
    for name, group in by_name(labels).items():
        candidates: list[Found | None] = list(found.get(name, ())[: len(group)])
        candidates += [None] * (len(group) - len(candidates))
        orders.append(
            [dict(zip(group, o, strict=True)) for o in itertools.permutations(candidates)]
        )
    for way in itertools.product(*orders):
        yield {label: one for part in way for label, one in part.items() if one is not None}


def connected(statements: Iterable[Triple]) -> list[list[Triple]]:
    """Return the statements in groups without a common name, in the order of the first ones."""
    order = list(dict.fromkeys(statements))
    parts: list[tuple[set[str], list[Triple]]] = []
    for triple in order:
        joined = (set(map(name_of_label, labels_of([triple]))), [triple])
        apart = []
        for part in parts:
            if joined[0] & part[0]:
                joined = (joined[0] | part[0], joined[1] + part[1])
            else:
                apart.append(part)
        parts = [*apart, joined]
    return sorted(
        (sorted(own, key=order.index) for _, own in parts), key=lambda p: order.index(p[0])
    )


def can_all_hold(
    names: Sequence[str],
    claims: Sequence[Relationship],
    holds: Callable[[int, str, int], bool],
) -> bool:
    """Whether objects of equal names can change places so that every claim holds.

    A graph whose claims all hold in this way states nothing new: who sees two dogs cannot say which
    one is the first.

    Args:
        names: Names of the objects.
        claims: Relationships between the objects; the one that is most in doubt comes first.
        holds: Whether a relationship holds of two objects.

    Returns:
        Whether such an exchange exists; True as well where more than :data:`MAX_WAYS` beginnings of
        one were tried in vain.
    """
    folded = [name.casefold() for name in names]
    about: dict[int, list[Relationship]] = {}
    for claim in claims:
        about.setdefault(claim[0], []).append(claim)
        about.setdefault(claim[2], []).append(claim)
    # Whatever is related to an object follows it: a wrong place then shows at once.
    order: dict[int, None] = {}
    for start in about:
        pending = [start]
        while pending:
            if (index := pending.pop()) not in order:
                order[index] = None
                pending += [end for one in about[index] for end in (one[0], one[2])]
    tried = itertools.count()

    def extends(places: Mapping[int, int], rest: Sequence[int]) -> bool:
        if not rest:
            return True
        for place, name in enumerate(folded):
            if name == folded[rest[0]] and place not in places.values():
                if next(tried) >= MAX_WAYS:
                    return True
                now = {**places, rest[0]: place}
                fits = all(
                    holds(now[subject], predicate, now[object_])
                    for subject, predicate, object_ in about[rest[0]]
                    if subject in now and object_ in now
                )
                if fits and extends(now, rest[1:]):
                    return True
        return False

    return extends({}, list(order))
