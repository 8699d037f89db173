"""Least-squares positions of things from the steps between them, in plain Python.

The normal equations of a graph's steps are its Laplacian: sparse, one block a connected group.
Groups of ordinary size are solved by dense elimination. Of large ones, things with few neighbours
are eliminated first (which leaves nothing of a tree or a chain), and conjugate gradients solve what
is left: that part is densely linked, where they converge in a few dozen rounds.

Shapes: n things, m steps.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

Step = tuple[int, int, int]
"""(a, b, step): a stands ``step`` further on than b."""

DENSE = 48
"""Things of a group up to which it is solved by dense elimination, O(n^3)."""

_FEW = 6
"""Neighbours up to which a thing of a large group is eliminated."""

_TOLERANCE = 1e-11


def places(steps: Sequence[Step]) -> tuple[float, ...]:
    """Return the positions p, (n,), that minimise sum (p[a] - p[b] - step)^2 over all (a, b, step).

    Each connected group has its mean at zero. The time is nearly linear in m.

    Args:
        steps: Steps, at least one; the things are numbered from 0, and each is in some step.
    """
    found = [0.0] * (1 + max(max(a, b) for a, b, _ in steps))
    for members, inner in _groups(steps, len(found)):
        number = {thing: place for place, thing in enumerate(members)}
        local = [(number[a], number[b], step) for a, b, step in inner]
        solve = _dense if len(members) <= DENSE else _sparse
        for thing, value in zip(members, solve(local, len(members)), strict=True):
            found[thing] = value
    return tuple(found)


def _groups(steps: Sequence[Step], count: int) -> list[tuple[list[int], list[Step]]]:
    """The connected groups: their things in ascending order, and their steps."""
    parent = list(range(count))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = parent[parent[thing]]
            thing = parent[thing]
        return thing

    for a, b, _ in steps:
        parent[root(b)] = root(a)
    members: dict[int, list[int]] = {}
    for thing in range(count):
        members.setdefault(root(thing), []).append(thing)
    inner: dict[int, list[Step]] = {key: [] for key in members}
    for entry in steps:
        inner[root(entry[0])].append(entry)
    return [(members[key], inner[key]) for key in members]


def _dense(steps: Sequence[Step], count: int) -> list[float]:
    """Gauss-Jordan elimination; the group's mean, added to each row, makes it definite."""
    rows = [[1.0] * count + [0.0] for _ in range(count)]
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
    return [row[-1] for row in rows]


def _sparse(steps: Sequence[Step], count: int) -> list[float]:
    """Eliminate what has few neighbours, solve the rest by conjugate gradients, and go back."""
    links: list[dict[int, float]] = [{} for _ in range(count)]  # weights between neighbours
    wanted = [0.0] * count  # the right side of the equations
    for a, b, step in steps:
        links[a][b] = links[a].get(b, 0.0) + 1.0
        links[b][a] = links[b].get(a, 0.0) + 1.0
        wanted[a] += step
        wanted[b] -= step
    gone: list[tuple[int, dict[int, float]]] = []
    left = set(range(count))
    queue = [(len(links[thing]), thing) for thing in range(count)]
    heapq.heapify(queue)
    while queue and len(left) > 1:
        degree, thing = heapq.heappop(queue)
        if thing not in left or degree != len(links[thing]):
            continue
        if degree > _FEW:
            break
        # Removing it links its neighbours with each other, as two springs in a row are one.
        near = links[thing]
        total = sum(near.values())
        for one, weight in near.items():
            del links[one][thing]
            wanted[one] += wanted[thing] * weight / total
        names = list(near)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                link = near[one] * near[other] / total
                links[one][other] = links[one].get(other, 0.0) + link
                links[other][one] = links[other].get(one, 0.0) + link
        for one in names:
            heapq.heappush(queue, (len(links[one]), one))
        left.discard(thing)
        gone.append((thing, near))
    found = [0.0] * count
    for thing, value in _conjugate_gradients(links, wanted, sorted(left)).items():
        found[thing] = value
    for thing, near in reversed(gone):
        total = sum(near.values())
        pulled = sum(weight * found[one] for one, weight in near.items())
        found[thing] = (wanted[thing] + pulled) / total
    mean = math.fsum(found) / count
    return [value - mean for value in found]


def _conjugate_gradients(
    links: Sequence[dict[int, float]], wanted: Sequence[float], things: Sequence[int]
) -> dict[int, float]:
    """Solve the Laplacian of ``things``, preconditioned by its diagonal."""
    if len(things) < 2:
        return dict.fromkeys(things, 0.0)
    diagonal = {thing: sum(links[thing].values()) for thing in things}
    found = dict.fromkeys(things, 0.0)
    rest = {thing: wanted[thing] for thing in things}
    bound = _TOLERANCE * max(1.0, math.sqrt(math.fsum(v * v for v in rest.values())))
    scaled = {thing: rest[thing] / diagonal[thing] for thing in things}
    way = dict(scaled)
    old = math.fsum(rest[thing] * scaled[thing] for thing in things)
    for _ in range(10 * len(things)):
        if math.sqrt(math.fsum(v * v for v in rest.values())) <= bound:
            break
        ahead = {
            thing: diagonal[thing] * way[thing]
            - math.fsum(weight * way[one] for one, weight in links[thing].items())
            for thing in things
        }
        length = old / math.fsum(way[thing] * ahead[thing] for thing in things)
        for thing in things:
            found[thing] += length * way[thing]
            rest[thing] -= length * ahead[thing]
            scaled[thing] = rest[thing] / diagonal[thing]
        new = math.fsum(rest[thing] * scaled[thing] for thing in things)
        way = {thing: scaled[thing] + new / old * way[thing] for thing in things}
        old = new
    return found
