"""Objects of one name, which only the statements about them tell apart.

Labels are those of :meth:`SceneGraph.labels`: "dog" and "dog#2" are two dogs. Whoever finds two
dogs in a picture does not know which one is "dog": every way to take the dogs that were found for
the labels is tried, and the one in which most statements hold is kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

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
