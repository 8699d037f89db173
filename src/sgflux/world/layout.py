"""Where everything in a picture of the bundled world goes.

Two steps: :func:`arrange` places the objects of one connected component relative to each other, in
units of its own; :func:`pack` gives every component a slot of the picture and a scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from sgflux.data.boxes import Corners
from sgflux.graphs.scene_graph import name_of_label
from sgflux.world.icons import Color, Stroke, corners_of, icon_size, icon_strokes
from sgflux.world.marks import Marks, Pair, Place
from sgflux.world.relations import RELATIONS, Request

Statement = Sequence[tuple[str, str, str]]
"""(subject, canonical predicate, object) of every triple, as labels: "dog#2" is another dog."""

_MAX_UNIT = 29 / 64
_SPLITS = (0.32, 0.41, 0.5, 0.59, 0.68)


@dataclass(frozen=True)
class Component:
    """Connected objects, placed in units of their own.

    Attributes:
        places: Label of each icon -> its place.
        marks: (subject, object, marks) of every triple.
        halos: white rim of those in front of something, units.
        paint_order: labels, back to front.
        crowding: area in which unrelated things meet, square units; 0 for a clear layout.
    """

    places: Mapping[str, Place]
    marks: Sequence[tuple[str, str, Marks]]
    halos: Mapping[str, float]
    paint_order: Sequence[str]
    crowding: float

    @cached_property
    def owned_strokes(self) -> list[tuple[str | None, Stroke]]:
        """Everything to paint, back to front, with the icon's label; None for strokes of marks.

        It is built only for a layout that is kept.
        """
        strokes: list[tuple[str | None, Stroke]] = []
        marks = [drawn for _, _, drawn in self.marks]
        strokes += [(None, stroke) for drawn in marks for stroke in drawn.under]
        for name in self.paint_order:
            place = self.places[name]
            icon = icon_strokes(
                name_of_label(name),
                center=(place.x, place.y),
                size=max(place.width, place.height),
                color=place.color,
                halo=self.halos.get(name, 0.0),
            )
            strokes += [(name, stroke) for stroke in icon]
            for subject, target, drawn in self.marks:
                if name == subject:
                    strokes += [(None, stroke) for stroke in drawn.on_subject]
                if name == target:
                    strokes += [(None, stroke) for stroke in drawn.on_object]
        return strokes + [(None, stroke) for drawn in marks for stroke in drawn.over]

    @property
    def strokes(self) -> list[Stroke]:
        """Everything to paint, back to front."""
        return [stroke for _, stroke in self.owned_strokes]

    @cached_property
    def box(self) -> Corners:
        """Extent of the strokes, units."""
        return corners_of(self.strokes)

    @cached_property
    def smallest(self) -> float:
        """Longer side of the smallest object, units."""
        return min(max(place.width, place.height) for place in self.places.values())


def connected(triples: Statement) -> list[list[tuple[str, str, str]]]:
    """Group triples by the objects that they share, directly or through others."""
    groups: list[list[tuple[str, str, str]]] = []
    for triple in triples:
        joined = [triple]
        apart = []
        for group in groups:
            if any({s, o} & {triple[0], triple[2]} for s, _, o in group):
                joined = group + joined
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups


def _placement_order(group: Statement) -> list[tuple[str, str, str]]:
    """Sort triples: sizes that carry meaning first, then along shared objects."""
    waiting = sorted(group, key=lambda triple: not RELATIONS[triple[1]].nested)
    order = [waiting.pop(0)]
    while waiting:
        known = {name for s, _, o in order for name in (s, o)}
        following = next(triple for triple in waiting if known & {triple[0], triple[2]})
        waiting.remove(following)
        order.append(following)
    return order


def _paint_order(group: Statement, names: Sequence[str]) -> list[str]:
    """Sort names from back to front, as far as the relations agree on it."""
    behind: list[tuple[str, str]] = []
    for subject, predicate, target in group:
        front = RELATIONS[predicate].front
        if front:
            behind.append((target, subject) if front > 0 else (subject, target))
    waiting, order = list(names), []
    while waiting:
        ready = [n for n in waiting if not any(f == n and b in waiting for b, f in behind)]
        order.append((ready or waiting)[0])
        waiting.remove(order[-1])
    return order


def arrange(
    rng: np.random.Generator,
    group: Statement,
    colors: Mapping[str, Color],
    *,
    thick: float,
    slack: float,
    spread: float,
    demanding: bool,
) -> Component:
    """Make one random layout of connected triples, with a measure of how crowded it is.

    If ``demanding``, a crowded layout is of no use: its measure is that of the first things that
    meet, and it may have no marks.
    """
    names = list(dict.fromkeys(name for s, _, o in group for name in (s, o)))
    jitter = {name: float(rng.uniform(0.92, 1.08)) for name in names}
    shape = {name: icon_size(name_of_label(name)) for name in names}
    places: dict[str, Place] = {}
    pairs: list[tuple[str, str, float, int]] = []
    halos: dict[str, float] = {}

    def put(name: str, x: float, y: float, size: float) -> None:
        width, height = shape[name]
        places[name] = Place(x, y, width * size, height * size, colors[name])

    order = _placement_order(group)
    for subject, predicate, target in order:
        relation = RELATIONS[predicate]
        ratio = relation.size_ratio(shape[subject], shape[target])
        sizes = {subject: relation.sizes[0], target: relation.sizes[0] * ratio}
        known = [name for name in (subject, target) if name in places]
        if not relation.nested:
            sizes = {name: size * jitter[name] for name, size in sizes.items()}
        unit = 1.0
        if known:
            anchor = places[known[0]]
            unit = max(anchor.width, anchor.height) / sizes[known[0]]
            if not relation.nested:
                unit = min(max(unit, 0.8), 1.25)
            sizes = {name: size * unit for name, size in sizes.items()}
        way = 1 if rng.random() < 0.5 else -1
        if len(known) < 2:
            first = known[0] if known else subject
            if not known:
                put(subject, 0.0, 0.0, sizes[subject])
            second = target if first == subject else subject
            put(second, 0.0, 0.0, sizes[second])
            scaled = [(places[n].width / unit, places[n].height / unit) for n in (subject, target)]
            dx, dy = relation.offset(Request(rng, scaled[0], scaled[1], way, slack))
            if spread and not relation.nested and relation.front == 0:
                # aside, at right angles to the main direction, to make room for a third object
                side = spread * (1 if rng.random() < 0.5 else -1)
                dx, dy = (dx + side, dy) if abs(dy) > abs(dx) else (dx, dy + side)
            sign = 1 if first == subject else -1
            put(
                second,
                places[first].x + sign * dx * unit,
                places[first].y + sign * dy * unit,
                sizes[second],
            )
        if abs(places[target].x - places[subject].x) > 0.6 * unit:
            way = 1 if places[target].x > places[subject].x else -1
            if predicate == "sitting on":
                way = -way
        pairs.append((subject, target, unit, way))
        if relation.halo:
            halos[subject if relation.front > 0 else target] = relation.halo * unit
    if demanding and (crowding := _meeting_places(group, places)):
        return Component(places, (), halos, names, crowding)
    marks: list[tuple[str, str, Marks]] = []
    for (_, predicate, _), (subject, target, unit, way) in zip(order, pairs, strict=True):
        drawn = Marks()
        pair = Pair(places[subject], places[target], unit, thick * unit, way)
        RELATIONS[predicate].draw(pair, drawn)
        marks.append((subject, target, drawn))
    crowding = 0.0
    if len(group) > 1:
        areas = _crowding(group, places, marks)
        crowding = next(filter(None, areas), 0.0) if demanding else sum(areas)
    return Component(places, marks, halos, _paint_order(group, names), crowding)


def _overlap(first: Corners, second: Corners, pad: float = 0.0) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0]) + pad
    height = min(first[3], second[3]) - max(first[1], second[1]) + pad
    return width * height if width > 0 and height > 0 else 0.0


def _meet_in(first: Corners, second: Corners, box: Corners) -> bool:
    """Whether the middle of what two boxes have in common lies in a third one."""
    x = (max(first[0], second[0]) + min(first[2], second[2])) / 2
    y = (max(first[1], second[1]) + min(first[3], second[3])) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _extent(place: Place) -> Corners:
    return place.left, place.top, place.right, place.bottom


def _meeting_places(group: Statement, places: Mapping[str, Place]) -> float:
    """Return the area, in square units, in which unrelated objects meet."""
    linked = {frozenset((s, o)) for s, _, o in group}
    extents = [(name, _extent(place)) for name, place in places.items()]
    return sum(
        _overlap(one, other, 0.16)
        for (first, one), (second, other) in itertools.combinations(extents, 2)
        if frozenset((first, second)) not in linked
    )


def _crowding(
    group: Statement,
    places: Mapping[str, Place],
    marks: Sequence[tuple[str, str, Marks]],
) -> Iterator[float]:
    """Yield the areas, in square units, in which unrelated things meet."""
    yield _meeting_places(group, places)
    if len({frozenset((s, o)) for s, _, o in group}) < len(group):
        yield 1.0
    boxes = [
        (subject, target, [s.box() for s in (*m.under, *m.on_subject, *m.on_object, *m.over)])
        for subject, target, m in marks
    ]
    for subject, target, strokes in boxes:
        for name, place in places.items():
            if name not in (subject, target):
                yield from (_overlap(stroke, _extent(place)) for stroke in strokes)
    for (s, o, mine), (also_s, also_o, other) in itertools.combinations(boxes, 2):
        # marks of two relations may meet on the object that they share, and nowhere else
        shared = [_extent(places[name]) for name in {s, o} & {also_s, also_o}]
        for a, b in itertools.product(mine, other):
            if not any(_meet_in(a, b, box) for box in shared):
                yield _overlap(a, b)


@lru_cache(maxsize=64)
def _slots(count: int, box: Corners) -> np.ndarray:
    """Return ways of cutting a box into one slot per component, in order: (ways, count, 4)."""
    if count == 1:
        return np.array([[box]])
    left, top, right, bottom = box
    found = []
    for first in range(1, count):
        for share in _SPLITS:
            x, y = left + share * (right - left), top + share * (bottom - top)
            halves = (
                ((left, top, x, bottom), (x, top, right, bottom)),
                ((left, top, right, y), (left, y, right, bottom)),
            )
            for one, other in halves:
                heads, tails = _slots(first, one), _slots(count - first, other)
                found.append(
                    np.concatenate(
                        [heads.repeat(len(tails), 0), np.tile(tails, (len(heads), 1, 1))], axis=1
                    )
                )
    return np.concatenate(found)


def pack(
    rng: np.random.Generator, components: Sequence[Component], resolution: int
) -> list[tuple[float, float, float]]:
    """Return (pixels per unit, x and y offset) per component, as large as the picture allows."""
    margin = (1.5 if len(components) == 1 else 3.4) * resolution / 64
    sizes = [(c.box[2] - c.box[0], c.box[3] - c.box[1]) for c in components]
    border = 0.0 if len(components) == 1 else -margin * 0.6
    frame = (border, border, resolution - border, resolution - border)
    ways = _slots(len(components), frame)
    room = ways[..., 2:] - ways[..., :2] - 2 * margin
    scales = (room / np.array(sizes)).min(axis=2)
    scores = (scales * [component.smallest for component in components]).min(axis=1)
    good = np.flatnonzero(scores >= 0.95 * scores.max())
    chosen = int(good[int(rng.integers(len(good)))])
    slots, room_for = ways[chosen].tolist(), scales[chosen].tolist()
    shrink = 0.88 if len(components) == 1 and len(components[0].places) == 2 else 0.97
    result = []
    for k, slot, component, (w, h) in zip(room_for, slots, components, sizes, strict=True):
        k = min(k, _MAX_UNIT * resolution) * float(rng.uniform(shrink, 1.0))
        spare_x = slot[2] - slot[0] - 2 * margin - k * w
        spare_y = slot[3] - slot[1] - 2 * margin - k * h
        x = slot[0] + margin + float(rng.random()) * spare_x - k * component.box[0]
        y = slot[1] + margin + float(rng.random()) * spare_y - k * component.box[1]
        result.append((k, x, y))
    return result
