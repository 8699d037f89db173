"""The marks that the bundled world paints for each predicate: arms, ropes, gazes, bursts.

Units and axes are those of :mod:`sgflux.world.icons`: x to the right, y downward. A mark is
placed relative to the icons' boxes only, so every ordered pair of objects gets the same marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sgflux.world.icons import (
    INK,
    WHITE,
    Color,
    Disk,
    Line,
    Point,
    Polygon,
    Stroke,
    outlined,
    shade,
)

_BRIGHT: Color = (255, 214, 40)
_GAZE: Color = (255, 222, 50)
_FIRE: Color = (235, 70, 40)
_ROPE: Color = (206, 158, 92)
_WATER: Color = (40, 130, 245)
_MOUTH: Color = (150, 20, 40)
_CRUMB: Color = (176, 112, 50)
_PARTY: tuple[Color, ...] = ((240, 60, 60), _BRIGHT, (60, 180, 75), (60, 110, 240))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an icon stands: centre and full width and height, units; and its main colour."""

    x: float
    y: float
    width: float
    height: float
    color: Color

    @property
    def left(self) -> float:
        """Smallest x."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """Largest x."""
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        """Smallest y."""
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        """Largest y."""
        return self.y + self.height / 2

    def side(self, direction: int) -> float:
        """Return the x of the right (1) or left (-1) side."""
        return self.x + direction * self.width / 2


@dataclass(slots=True)
class Marks:
    """Strokes of one relation by layer: under both icons, on the subject/object, over both."""

    under: list[Stroke] = field(default_factory=list)
    on_subject: list[Stroke] = field(default_factory=list)
    on_object: list[Stroke] = field(default_factory=list)
    over: list[Stroke] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a relation is drawn from.

    Attributes:
        subject, object: Places of the two icons.
        unit: length that marks scale with, about one icon.
        thick: width of a mark's lines, units.
        way: 1 or -1, the horizontal direction from the subject to the object, or a free choice for
            relations along the vertical.
    """

    subject: Place
    object: Place
    unit: float
    thick: float
    way: int


# --- pieces of marks ----------------------------------------------------------------------------


def _limb(points: Sequence[Point], pair: Pair, color: Color, factor: float = 1.0) -> list[Stroke]:
    return outlined([Line(tuple(points), pair.thick * factor, color)])


def _hand(x: float, y: float, pair: Pair) -> list[Stroke]:
    radius = pair.thick * 0.85
    return outlined([Disk((x, y), (radius, radius), shade(pair.subject.color, 0.55))])


def _shoe(x: float, y: float, pair: Pair, way: int) -> list[Stroke]:
    t = pair.thick
    return [Disk((x + way * 0.35 * t, y), (1.1 * t, 0.65 * t), INK)]


def _chevrons(x: float, y: float, pair: Pair, way: int) -> list[Stroke]:
    """Return two arrow heads that start at x and point along ``way``."""
    u = pair.unit
    heads: list[Stroke] = []
    for index in range(2):
        tail = x + way * (0.06 + 0.27 * index) * u
        tip = tail + way * 0.2 * u
        heads.append(
            Line(((tail, y - 0.27 * u), (tip, y), (tail, y + 0.27 * u)), 0.8 * pair.thick, WHITE)
        )
    return outlined(heads)


def _star(x: float, y: float, outer: float, inner: float, points: int, color: Color) -> Polygon:
    corners = []
    for index in range(2 * points):
        angle = math.pi * (index / points - 0.5)
        radius = inner if index % 2 else outer
        corners.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return Polygon(tuple(corners), color)


# --- the marks of each predicate ----------------------------------------------------------------


def nothing(pair: Pair, marks: Marks) -> None:
    """Draw no mark: the position alone shows the relation."""


def near(pair: Pair, marks: Marks) -> None:
    """Draw a ring around both."""
    s, o, u = pair.subject, pair.object, pair.unit
    left, right = min(s.left, o.left), max(s.right, o.right)
    top, bottom = min(s.top, o.top), max(s.bottom, o.bottom)
    x, y = (left + right) / 2, (top + bottom) / 2
    rx, ry = (right - left) / 2 + 0.2 * u, (bottom - top) / 2 + 0.2 * u
    angles = [2 * math.pi * step / 36 for step in range(36)]
    # a superellipse of degree 4 stays close to a box and still reads as a ring
    ring = [
        (
            x + rx * math.copysign(math.sqrt(abs(math.cos(a))), math.cos(a)),
            y + ry * math.copysign(math.sqrt(abs(math.sin(a))), math.sin(a)),
        )
        for a in angles
    ]
    marks.under += outlined([Line((*ring, ring[0]), 0.85 * pair.thick, WHITE)])


def touching(pair: Pair, marks: Marks) -> None:
    """Draw a burst where they meet."""
    s, o, u = pair.subject, pair.object, pair.unit
    x, y = (s.side(pair.way) + o.side(-pair.way)) / 2, (s.y + o.y) / 2
    marks.over += outlined([_star(x, y, 0.36 * u, 0.18 * u, 8, _FIRE)])
    marks.over.append(_star(x, y, 0.22 * u, 0.12 * u, 8, _BRIGHT))


def on(pair: Pair, marks: Marks) -> None:
    """Draw a plank between them."""
    s, o, u, t = pair.subject, pair.object, pair.unit, pair.thick
    half = max(s.width, o.width) / 2 + 0.05 * u
    y, x = (s.bottom + o.top) / 2, (s.x + o.x) / 2
    plank = (
        (x - half, y - t / 2),
        (x + half, y - t / 2),
        (x + half, y + t / 2),
        (x - half, y + t / 2),
    )
    marks.over += outlined([Polygon(plank, (150, 98, 56))])


def standing(pair: Pair, marks: Marks) -> None:
    """Draw two straight legs of the subject on top of the object."""
    s, o, u = pair.subject, pair.object, pair.unit
    floor = o.top + 0.08 * u
    for side in (-1, 1):
        x = s.x + side * 0.17 * u
        marks.over += _limb([(x, s.bottom - 0.14 * u), (x, floor)], pair, s.color)
        marks.over += _shoe(x, floor, pair, side)


def sitting(pair: Pair, marks: Marks) -> None:
    """Draw bent legs of the subject over one side of the object."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    seat = (s.bottom + o.top) / 2
    edge = max(way * o.side(way), way * s.x + 0.2 * u)
    for index, length in ((1, 0.62), (0, 0.5)):
        knee = way * (edge + (0.12 + 0.24 * index) * u)
        y = seat - 0.1 * u * index
        foot = seat + length * u
        marks.over += _limb([(s.x, y), (knee, y), (knee, foot)], pair, s.color)
        marks.over += _shoe(knee, foot, pair, way)


def riding(pair: Pair, marks: Marks) -> None:
    """Draw legs astride of the object, and streaks behind both."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    spread = min(max(o.width / 2 + 0.05 * u, 0.32 * u), 0.56 * u)
    for side in (-1, 1):
        x = o.x + side * spread
        hip = (s.x + side * 0.12 * u, s.bottom - 0.12 * u)
        knee, foot = (x, o.top + 0.14 * o.height), (x, o.top + 0.68 * o.height)
        marks.over += _limb([hip, knee, foot], pair, s.color)
        marks.over += _shoe(*foot, pair, way)
    back = -max(-way * s.x + s.width / 2, -way * o.x + o.width / 2) * way
    streaks: list[Stroke] = []
    for share, length in ((-0.55, 0.38), (0.0, 0.5), (0.55, 0.38)):
        y = (s.bottom + o.top) / 2 + share * u
        streaks.append(
            Line(
                ((back - way * 0.12 * u, y), (back - way * (0.12 + length) * u, y)),
                0.8 * pair.thick,
                WHITE,
            )
        )
    marks.under += outlined(streaks)


def opening(width: float, height: float) -> float:
    """Return the radius of an opening for something of this size whose corners are empty."""
    return 0.48 * math.hypot(width, height) + 0.05 * max(width, height)


def inside(pair: Pair, marks: Marks) -> None:
    """Draw a light round opening in the object, with the subject in it."""
    s = pair.subject
    radius = opening(s.width, s.height)
    hole = Disk((s.x, s.y), (radius, radius), (255, 250, 225))
    marks.on_object += [hole.edge(0.06 * pair.unit, INK), hole]


def wearing(pair: Pair, marks: Marks) -> None:
    """Draw a V of straps from the shoulders of the subject to the object."""
    s, o = pair.subject, pair.object
    strap: list[Stroke] = []
    for side in (-1, 1):
        x = s.x + side * max(0.3 * s.width, 0.38 * pair.unit)
        strap.append(Line(((x, s.top + 0.08 * s.height), (o.x, o.y)), 1.1 * pair.thick, WHITE))
    marks.on_subject += outlined(strap)


def holding(pair: Pair, marks: Marks) -> None:
    """Draw one arm with a hand at the object's near side."""
    s, o, way = pair.subject, pair.object, pair.way
    hand = o.side(-way) + way * 0.16 * o.width
    marks.over += _limb([(s.x + way * 0.12 * s.width, s.y), (hand, o.y)], pair, s.color, 1.15)
    marks.over += _hand(hand, o.y, pair)


def using(pair: Pair, marks: Marks) -> None:
    """Draw an arm, and bolts at the object's far side."""
    holding(pair, marks)
    o, u, way = pair.object, pair.unit, pair.way
    far = o.side(way)
    bolts: list[Stroke] = []
    for share in (-0.42, 0.0, 0.42):
        lean = 0.5 * share
        steps = ((0.05, 0.0), (0.2, -0.1), (0.26, 0.08), (0.44, -0.02))
        bolts.append(
            Line(
                tuple(
                    (far + way * dx * u, o.y + (share + lean * dx / 0.44 + dy) * u)
                    for dx, dy in steps
                ),
                0.75 * pair.thick,
                _BRIGHT,
            )
        )
    marks.over += outlined(bolts)


def carrying(pair: Pair, marks: Marks) -> None:
    """Draw two raised arms under the object."""
    s, o, u = pair.subject, pair.object, pair.unit
    for side in (-1, 1):
        shoulder = (s.x + side * 0.22 * s.width, s.y)
        elbow = (s.x + side * max(s.width / 2, 0.4 * u), s.top + 0.2 * s.height)
        hand = (o.x + side * max(0.36 * o.width, 0.3 * u), o.bottom - 0.06 * u)
        marks.over += _limb([shoulder, elbow, hand], pair, s.color)
        marks.over += _hand(*hand, pair)


def hanging(pair: Pair, marks: Marks) -> None:
    """Draw a rope with knots from the object down to the subject."""
    s, o, u = pair.subject, pair.object, pair.unit
    top, end = (o.x, o.bottom - 0.16 * u), (s.x, s.top + 0.14 * u)
    marks.over += _limb([top, end], pair, _ROPE)
    marks.over += outlined([Disk(top, (0.17 * u, 0.15 * u), _ROPE)])
    marks.over += outlined([Disk(end, (0.11 * u, 0.11 * u), _ROPE)])


def pulling(pair: Pair, marks: Marks) -> None:
    """Draw a rope, and arrow heads on the side of the subject where both are going."""
    s, o, way = pair.subject, pair.object, pair.way
    near = o.side(-way) + way * 0.12 * o.width
    marks.over += _limb([(s.x, s.y), (near, o.y)], pair, _ROPE)
    marks.over += outlined([Disk((near, o.y), (0.14 * pair.unit, 0.14 * pair.unit), _ROPE)])
    marks.over += _chevrons(s.side(-way), s.y, pair, -way)


def pushing(pair: Pair, marks: Marks) -> None:
    """Draw two arms with flat palms, and arrow heads beyond the object."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    palm = o.side(-way) - way * 0.02 * u
    for side in (-1, 1):
        y, tall = (s.y + o.y) / 2 + side * 0.2 * u, 0.15 * u
        marks.over += _limb([(s.x + way * 0.15 * s.width, y), (palm, y)], pair, s.color)
        marks.over += outlined(
            [Line(((palm, y - tall), (palm, y + tall)), 0.8 * pair.thick, shade(s.color, 0.55))]
        )
    marks.over += _chevrons(o.side(way), o.y, pair, way)


def looking(pair: Pair, marks: Marks) -> None:
    """Draw eyes on the subject and a cone of light onto the object."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    eye = (s.x + way * 0.22 * s.width, s.y - 0.12 * s.height)
    reach, half = o.side(way) + way * 0.02 * u, 0.5 * max(o.height, 0.85 * u)
    cone = Polygon((eye, (reach, o.y - half), (reach, o.y + half)), _GAZE)
    marks.under += [cone]
    near = o.side(-way)
    share = (near - eye[0]) / (reach - eye[0])
    low, high = eye[1] + share * (o.y + half - eye[1]), eye[1] + share * (o.y - half - eye[1])
    marks.over.append(Polygon((eye, (near, high), (near, low)), _GAZE))
    for dx in (-0.17, 0.13):
        center = (eye[0] + dx * u, eye[1])
        marks.over += outlined([Disk(center, (0.15 * u, 0.18 * u), WHITE)])
        marks.over.append(Disk((center[0] + way * 0.06 * u, center[1]), (0.075 * u, 0.09 * u), INK))


def eating(pair: Pair, marks: Marks) -> None:
    """Draw a toothed mouth of the subject around the object, and crumbs."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    x, half = s.side(way), max(0.5 * o.height + 0.12 * u, 0.42 * u)
    hinge, lip = (x - way * 0.36 * u, o.y), x + way * 0.34 * u
    marks.on_subject += outlined(
        [
            Polygon(
                (hinge, (lip, o.y - half), (lip + way * 0.02 * u, o.y), (lip, o.y + half)), _MOUTH
            )
        ]
    )
    for side in (-1, 1):
        jaw = ((hinge[0], hinge[1] + side * 0.02 * u), (lip, o.y + side * half))
        marks.over += _limb(jaw, pair, s.color, 0.9)
        teeth: list[Stroke] = []
        for share in (0.5, 0.88):
            tx = jaw[0][0] + share * (jaw[1][0] - jaw[0][0])
            ty = jaw[0][1] + share * (jaw[1][1] - jaw[0][1])
            w = 0.1 * u
            teeth.append(Polygon(((tx - w, ty), (tx + w, ty), (tx, ty - side * 0.2 * u)), WHITE))
        marks.over += teeth
    for dx, dy in ((0.1, 0.18), (0.34, 0.1), (0.24, 0.36)):
        cx, cy = x + way * dx * u, o.y + half + dy * u
        marks.over += outlined([Disk((cx, cy), (0.07 * u, 0.07 * u), _CRUMB)], 0.03)


def drinking(pair: Pair, marks: Marks) -> None:
    """Draw a striped straw with a bend from the subject into the object, and drops."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    mouth = (s.side(way) - way * 0.2 * s.width, s.y - 0.05 * u)
    bend = (o.x - way * 0.1 * u, min(o.top, s.y) - 0.22 * u)
    path = (mouth, bend, (o.x, o.y))
    marks.over += outlined([Line(path, pair.thick, WHITE)])
    for start, end in pairwise(path):
        count = max(1, round(math.dist(start, end) / (0.3 * u)))
        for index in range(count):
            a, b = (index + 0.3) / count, (index + 0.7) / count
            piece = tuple(
                (start[0] + k * (end[0] - start[0]), start[1] + k * (end[1] - start[1]))
                for k in (a, b)
            )
            marks.over.append(Line(piece, 0.9 * pair.thick, _FIRE))
    gap = (s.side(way) + o.side(-way)) / 2
    for dx, dy in ((-0.02, 0.12), (-0.16, 0.44), (0.14, 0.5)):
        x, y, r = gap + way * dx * u, s.y + dy * u, 0.1 * u
        drop: list[Stroke] = [
            Disk((x, y), (r, r), _WATER),
            Polygon(((x - r, y), (x + r, y), (x, y - 2 * r)), _WATER),
        ]
        marks.over += outlined(drop, 0.03, WHITE)


def playing(pair: Pair, marks: Marks) -> None:
    """Draw a bouncing arrow of dots from the subject to the object, and confetti."""
    s, o, u, way = pair.subject, pair.object, pair.unit, pair.way
    start, end = (s.x, s.top - 0.05 * u), (o.x, o.top - 0.22 * u)
    dots: list[Stroke] = []
    for index in range(5):
        k = index / 4.6
        x = start[0] + k * (end[0] - start[0])
        y = start[1] + k * (end[1] - start[1]) - 0.5 * u * abs(math.sin(2 * math.pi * k))
        dots.append(Disk((x, y), (0.1 * u, 0.1 * u), WHITE))
    head = ((end[0] - 0.2 * u, end[1] - 0.12 * u), (end[0] + 0.2 * u, end[1] - 0.12 * u))
    marks.over += outlined([*dots, Polygon((*head, (end[0], end[1] + 0.16 * u)), WHITE)])
    middle, foot = (s.side(way) + o.side(-way)) / 2, max(s.bottom, o.bottom)
    spots = ((-0.02, -0.75), (0.08, -0.45), (-0.08, -0.2), (0.06, 0.05))
    for (dx, dy), color in zip(spots, _PARTY, strict=True):
        x, y, r = middle + dx * u, foot + dy * u, 0.095 * u
        square = ((x - r, y), (x, y - r), (x + r, y), (x, y + r))
        marks.over += outlined([Polygon(square, color)], 0.03)
