"""The geometry of the 24 canonical predicates in the bundled world.

A :class:`Relation` says how large subject and object are relative to each other, where the object
stands relative to the subject, and which marks (:mod:`sgflux.world.marks`) are painted for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sgflux.graphs.predicates import CANONICAL_PREDICATES
from sgflux.world import marks as marks
from sgflux.world.icons import Point
from sgflux.world.marks import Marks, Pair


@dataclass(frozen=True, slots=True)
class Request:
    """What it takes to choose where an object stands relative to its subject.

    Attributes:
        rng: randomness.
        subject_size, object_size: widths and heights for a unit of 1.
        way: 1 or -1, which side to choose where both will do.
        slack: factor on gaps, below 1 where a scene holds several relations.
    """

    rng: np.random.Generator
    subject_size: Point
    object_size: Point
    way: int
    slack: float

    def between(self, low: float, high: float) -> float:
        """Draw a uniform random number."""
        return float(self.rng.uniform(low, high))

    def gap(self, low: float, high: float) -> float:
        """Draw a random gap in [low, high] times the slack; it is exact if low = high."""
        return low if low == high else self.slack * self.between(low, high)

    @property
    def reach(self) -> Point:
        """Distance of the centres at which the icons meet, along x and y."""
        return (
            (self.subject_size[0] + self.object_size[0]) / 2,
            (self.subject_size[1] + self.object_size[1]) / 2,
        )


_Offset = Callable[[Request], Point]
_Draw = Callable[[Pair, Marks], None]


@dataclass(frozen=True, slots=True)
class Relation:
    """One predicate's geometry.

    Attributes:
        offset: object centre minus subject centre, for a unit of 1.
        draw: adds the marks of a placed pair.
        sizes: longer side of subject and object in units.
        nested: the sizes matter to the meaning and must not be relaxed.
        front: 1 if the subject is painted over the object, -1 for the reverse, 0 for no matter.
        halo: white rim around whichever is in front, units.
    """

    offset: _Offset
    draw: _Draw
    sizes: Point = (1.0, 1.0)
    nested: bool = False
    front: int = 0
    halo: float = 0.0

    def size_ratio(self, subject_size: Point, object_size: Point) -> float:
        """Return the object's longer side over the subject's, given both icons' proportions.

        A container must be wide enough for the round opening that its content needs.
        """
        ratio = self.sizes[1] / self.sizes[0]
        if self.draw is not marks.inside:
            return ratio
        return max(ratio, 2.2 * marks.opening(*subject_size) / min(object_size))


# --- where the object stands --------------------------------------------------------------------


def _beside(low: float, high: float, *, direction: int = 0, shift: float = 0.06) -> _Offset:
    """Place both next to each other with a gap, on any side or on that of ``direction``."""

    def offset(request: Request) -> Point:
        gap = request.gap(low, high)
        side = direction or request.way
        return side * (request.reach[0] + gap), request.between(-shift, shift)

    return offset


def _stacked(direction: int, low: float, high: float, *, shift: float = 0.06) -> _Offset:
    """Place the object below (1) or above (-1) the subject, with a gap."""

    def offset(request: Request) -> Point:
        gap = request.gap(low, high)
        return request.between(-shift, shift), direction * (request.reach[1] + gap)

    return offset


def _overlapping(lift: int) -> _Offset:
    """Place both partly over each other, what is behind a little higher, as seen from above.

    ``lift`` is -1 when the object is the one behind.
    """

    def offset(request: Request) -> Point:
        across = request.between(0.52, 0.6) * request.reach[0]
        return request.way * across, lift * request.between(0.1, 0.2) * request.reach[1]

    return offset


def _centered(request: Request) -> Point:
    return request.between(-0.03, 0.03), request.between(-0.03, 0.03)


def _on_chest(request: Request) -> Point:
    return request.between(-0.03, 0.03), 0.12 * request.subject_size[1]


def _seated(request: Request) -> Point:
    """Place the subject at the edge of a wider object, over whose side its legs hang."""
    edge = max(0.0, (request.object_size[0] - request.subject_size[0]) / 2)
    return -request.way * edge, request.reach[1] + 0.06


RELATIONS: Mapping[str, Relation] = {
    "above": Relation(_stacked(1, 0.3, 0.44), marks.nothing),
    "around/near": Relation(_beside(0.14, 0.22), marks.near),
    "behind": Relation(_overlapping(1), marks.nothing, nested=True, front=-1, halo=0.07),
    "below": Relation(_stacked(-1, 0.3, 0.44), marks.nothing),
    "carrying": Relation(_stacked(-1, 0.22, 0.3), marks.carrying),
    "drinking": Relation(_beside(0.42, 0.5), marks.drinking, sizes=(1.0, 0.9)),
    "eating": Relation(
        _beside(0.16, 0.16, shift=0.04), marks.eating, sizes=(1.35, 0.75), nested=True, front=-1
    ),
    "hanging from": Relation(_stacked(-1, 0.45, 0.6), marks.hanging),
    "holding": Relation(_beside(0.36, 0.46), marks.holding),
    "in": Relation(_centered, marks.inside, sizes=(1.0, 2.2), nested=True, front=1),
    "in front of": Relation(_overlapping(-1), marks.nothing, nested=True, front=1, halo=0.07),
    "left of": Relation(_beside(0.3, 0.46, direction=1), marks.nothing),
    "looking at": Relation(_beside(0.5, 0.65), marks.looking),
    "on": Relation(_stacked(1, 0.12, 0.12), marks.on, front=1),
    "playing with": Relation(_beside(0.4, 0.5), marks.playing),
    "pulling": Relation(_beside(0.5, 0.6), marks.pulling),
    "pushing": Relation(_beside(0.36, 0.44), marks.pushing),
    "riding": Relation(_stacked(1, -0.08, -0.08), marks.riding, front=1),
    "right of": Relation(_beside(0.3, 0.46, direction=-1), marks.nothing),
    "sitting on": Relation(_seated, marks.sitting, front=1),
    "standing on": Relation(_stacked(1, 0.34, 0.42), marks.standing, front=1),
    "touching": Relation(_beside(-0.06, -0.06), marks.touching),
    "using": Relation(_beside(0.36, 0.46), marks.using),
    "wearing": Relation(_on_chest, marks.wearing, sizes=(2.1, 0.95), nested=True, front=-1),
}
"""Canonical predicate -> its geometry."""

if tuple(sorted(RELATIONS)) != CANONICAL_PREDICATES:
    raise AssertionError("the world must draw exactly the canonical predicates")
