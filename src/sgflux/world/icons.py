"""Flat icons of the bundled world's objects, and the strokes that everything in it is made of.

A picture is a list of strokes (:class:`Polygon`, :class:`Disk`, :class:`Line`), painted in order on
a supersampled canvas. Coordinates are in *units*: x to the right, y downward, an icon's longer side
is about 1 unit. No fonts, no files: the same strokes give the same bytes everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from sgflux.data.boxes import Corners

Color = tuple[int, int, int]
Point = tuple[float, float]

INK: Color = (28, 26, 38)
WHITE: Color = (255, 255, 255)
OUTLINE = 0.045
"""Width of the dark line around a shape, in units."""

_FIXED: Mapping[str, Color] = {
    "ink": INK,
    "white": WHITE,
    "bark": (122, 78, 44),
    "leaf": (58, 140, 62),
    "glass": (190, 226, 245),
    "beak": (246, 160, 32),
    "pollen": (252, 214, 60),
    "skin": (250, 206, 170),
}


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled polygon."""

    points: tuple[Point, ...]
    color: Color

    def box(self) -> Corners:
        """Extent in units."""
        xs = [point[0] for point in self.points]
        ys = [point[1] for point in self.points]
        return min(xs), min(ys), max(xs), max(ys)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, dx: float, dy: float) -> None:
        """Fill on a canvas: pixel = unit * scale + offset."""
        draw.polygon([(x * scale + dx, y * scale + dy) for x, y in self.points], fill=self.color)

    def edge(self, width: float, color: Color) -> Stroke:
        """The line to paint under the shape so that it has an outline of ``width``."""
        return Line((*self.points, self.points[0]), 2 * width, color)


@dataclass(frozen=True, slots=True)
class Disk:
    """A filled, axis-aligned ellipse."""

    center: Point
    radii: Point
    color: Color

    def box(self) -> Corners:
        """Extent in units."""
        (x, y), (rx, ry) = self.center, self.radii
        return x - rx, y - ry, x + rx, y + ry

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, dx: float, dy: float) -> None:
        """Fill on a canvas: pixel = unit * scale + offset."""
        left, top, right, bottom = self.box()
        draw.ellipse(
            (left * scale + dx, top * scale + dy, right * scale + dx, bottom * scale + dy),
            fill=self.color,
        )

    def edge(self, width: float, color: Color) -> Stroke:
        """The shape to paint under this one so that it has an outline of ``width``."""
        return Disk(self.center, (self.radii[0] + width, self.radii[1] + width), color)


@dataclass(frozen=True, slots=True)
class Line:
    """A thick line through points, with round joints and ends."""

    points: tuple[Point, ...]
    width: float
    color: Color

    def box(self) -> Corners:
        """Extent in units."""
        xs = [point[0] for point in self.points]
        ys = [point[1] for point in self.points]
        half = self.width / 2
        return min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, dx: float, dy: float) -> None:
        """Stroke on a canvas: pixel = unit * scale + offset."""
        points = [(x * scale + dx, y * scale + dy) for x, y in self.points]
        radius = self.width * scale / 2
        draw.line(points, fill=self.color, width=max(1, round(2 * radius)))
        for x, y in points if points[0] != points[-1] else points[:-1]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.color)

    def edge(self, width: float, color: Color) -> Stroke:
        """The line to paint under this one so that it has an outline of ``width``."""
        return Line(self.points, self.width + 2 * width, color)


Stroke = Polygon | Disk | Line


def outlined(shapes: Sequence[Stroke], width: float = OUTLINE, color: Color = INK) -> list[Stroke]:
    """The shapes with one common outline: all edges first, then all fills."""
    return [*(shape.edge(width, color) for shape in shapes), *shapes]


def shade(color: Color, amount: float) -> Color:
    """Mix with white (``amount`` > 0) or black (``amount`` < 0); |amount| is the share, 0 to 1."""
    target = 255.0 if amount > 0 else 0.0
    share = abs(amount)
    red, green, blue = (round(channel + (target - channel) * share) for channel in color)
    return red, green, blue


# --- icon definitions ---------------------------------------------------------------------------
# ("p", tone, points) polygon; ("d", tone, x, y, rx, ry) disk; ("l", tone, width, points) line.
# Tones: main, dark, light (from the object's random colour) or a name in _FIXED. The first tuple
# of an icon is its silhouette, which gets an outline; the second is detail painted on top of it.

_Part = tuple  # a heterogeneous row of the table below; read only by _strokes
_Icon = tuple[tuple[_Part, ...], tuple[_Part, ...]]


def _sectors(x: float, y: float, radius: float, count: int) -> tuple[_Part, ...]:
    rows = []
    for index in range(0, count, 2):
        start = 2 * math.pi * index / count
        arc = [start + 2 * math.pi / count * step / 4 for step in range(5)]
        rim = tuple((x + radius * math.cos(a), y + radius * math.sin(a)) for a in arc)
        rows.append(("p", "white", ((x, y), *rim)))
    return tuple(rows)


def _petals(x: float, y: float, reach: float, radius: float, count: int) -> tuple[_Part, ...]:
    angles = [2 * math.pi * (index + 0.25) / count for index in range(count)]
    return tuple(
        ("d", "main", x + reach * math.cos(a), y + reach * math.sin(a), radius, radius)
        for a in angles
    )


_ICONS: dict[str, _Icon] = {
    "man": (
        (
            ("l", "dark", 0.17, ((0.42, 0.62), (0.36, 0.92))),
            ("l", "dark", 0.17, ((0.58, 0.62), (0.64, 0.92))),
            ("l", "main", 0.13, ((0.34, 0.4), (0.22, 0.62))),
            ("l", "main", 0.13, ((0.66, 0.4), (0.78, 0.62))),
            ("p", "main", ((0.3, 0.33), (0.7, 0.33), (0.64, 0.68), (0.36, 0.68))),
            ("d", "skin", 0.5, 0.17, 0.16, 0.17),
        ),
        (("p", "dark", ((0.34, 0.14), (0.42, 0.01), (0.58, 0.01), (0.66, 0.14))),),
    ),
    "horse": (
        (
            ("l", "dark", 0.08, ((0.17, 0.42), (0.05, 0.56), (0.04, 0.72))),
            ("l", "main", 0.1, ((0.25, 0.6), (0.24, 0.93))),
            ("l", "main", 0.1, ((0.62, 0.6), (0.64, 0.93))),
            ("l", "dark", 0.1, ((0.37, 0.6), (0.39, 0.93))),
            ("l", "dark", 0.1, ((0.52, 0.6), (0.5, 0.93))),
            ("d", "main", 0.43, 0.5, 0.28, 0.17),
            ("p", "main", ((0.5, 0.42), (0.7, 0.06), (0.82, 0.1), (0.72, 0.58))),
            ("p", "main", ((0.68, 0.08), (0.78, 0.0), (1.02, 0.24), (0.94, 0.36), (0.74, 0.26))),
        ),
        (
            ("l", "dark", 0.09, ((0.68, 0.06), (0.53, 0.36))),
            ("d", "ink", 0.8, 0.15, 0.032, 0.032),
        ),
    ),
    "dog": (
        (
            ("l", "main", 0.09, ((0.12, 0.48), (0.02, 0.24))),
            ("p", "main", ((0.08, 0.42), (0.66, 0.42), (0.66, 0.72), (0.08, 0.72))),
            ("l", "main", 0.13, ((0.16, 0.66), (0.16, 0.84))),
            ("l", "main", 0.13, ((0.58, 0.66), (0.58, 0.84))),
            ("d", "main", 0.7, 0.3, 0.22, 0.2),
            ("d", "light", 0.92, 0.36, 0.13, 0.1),
        ),
        (
            ("d", "dark", 0.55, 0.32, 0.085, 0.2),
            ("d", "ink", 1.0, 0.32, 0.055, 0.05),
            ("d", "ink", 0.77, 0.24, 0.04, 0.04),
        ),
    ),
    "bird": (
        (
            ("p", "dark", ((0.3, 0.5), (-0.06, 0.32), (-0.02, 0.66))),
            ("p", "beak", ((0.86, 0.26), (1.08, 0.38), (0.86, 0.46))),
            ("d", "main", 0.46, 0.56, 0.34, 0.22),
            ("d", "main", 0.76, 0.36, 0.17, 0.17),
            ("p", "dark", ((0.28, 0.56), (0.64, 0.56), (0.3, 0.02))),
        ),
        (("d", "ink", 0.8, 0.32, 0.045, 0.045),),
    ),
    "tree": (
        (
            ("p", "bark", ((0.4, 0.55), (0.6, 0.55), (0.64, 1.0), (0.36, 1.0))),
            ("d", "main", 0.27, 0.46, 0.25, 0.22),
            ("d", "main", 0.73, 0.46, 0.25, 0.22),
            ("d", "main", 0.5, 0.27, 0.29, 0.27),
        ),
        (("d", "light", 0.42, 0.22, 0.09, 0.08), ("d", "dark", 0.66, 0.5, 0.09, 0.07)),
    ),
    "house": (
        (
            ("p", "main", ((0.1, 0.42), (0.9, 0.42), (0.9, 0.95), (0.1, 0.95))),
            ("p", "dark", ((-0.02, 0.46), (0.5, 0.0), (1.02, 0.46))),
        ),
        (
            ("p", "ink", ((0.2, 0.58), (0.42, 0.58), (0.42, 0.95), (0.2, 0.95))),
            ("p", "glass", ((0.56, 0.56), (0.8, 0.56), (0.8, 0.76), (0.56, 0.76))),
        ),
    ),
    "car": (
        (
            ("p", "main", ((0.2, 0.34), (0.32, 0.06), (0.68, 0.06), (0.84, 0.34))),
            (
                "p",
                "main",
                ((0.0, 0.36), (0.86, 0.3), (1.02, 0.4), (1.02, 0.58), (0.0, 0.58)),
            ),
            ("d", "ink", 0.23, 0.58, 0.13, 0.13),
            ("d", "ink", 0.78, 0.58, 0.13, 0.13),
        ),
        (
            ("p", "glass", ((0.3, 0.32), (0.37, 0.13), (0.48, 0.13), (0.48, 0.32))),
            ("p", "glass", ((0.54, 0.13), (0.64, 0.13), (0.74, 0.32), (0.54, 0.32))),
            ("d", "white", 0.23, 0.58, 0.055, 0.055),
            ("d", "white", 0.78, 0.58, 0.055, 0.055),
        ),
    ),
    "box": (
        (
            ("p", "main", ((0.0, 0.26), (0.7, 0.26), (0.7, 0.92), (0.0, 0.92))),
            ("p", "light", ((0.0, 0.26), (0.24, 0.02), (0.94, 0.02), (0.7, 0.26))),
            ("p", "dark", ((0.7, 0.26), (0.94, 0.02), (0.94, 0.66), (0.7, 0.92))),
        ),
        (
            ("p", "white", ((0.28, 0.26), (0.42, 0.26), (0.42, 0.54), (0.28, 0.54))),
            ("p", "white", ((0.28, 0.26), (0.52, 0.02), (0.66, 0.02), (0.42, 0.26))),
        ),
    ),
    "cup": (
        (
            (
                "l",
                "main",
                0.11,
                ((0.66, 0.3), (0.88, 0.28), (0.96, 0.46), (0.86, 0.64), (0.62, 0.66)),
            ),
            ("p", "main", ((0.02, 0.14), (0.72, 0.14), (0.62, 0.86), (0.12, 0.86))),
            ("d", "light", 0.37, 0.14, 0.36, 0.1),
        ),
        (
            ("d", "dark", 0.37, 0.14, 0.27, 0.055),
            ("p", "light", ((0.06, 0.44), (0.68, 0.44), (0.655, 0.6), (0.085, 0.6))),
        ),
    ),
    "ball": ((("d", "main", 0.5, 0.5, 0.43, 0.43),), _sectors(0.5, 0.5, 0.43, 6)),
    "kite": (
        (
            ("l", "ink", 0.05, ((0.4, 0.7), (0.5, 0.82), (0.34, 0.92), (0.46, 1.03))),
            ("p", "main", ((0.4, 0.0), (0.8, 0.28), (0.4, 0.74), (0.0, 0.28))),
        ),
        (
            ("p", "light", ((0.4, 0.0), (0.8, 0.28), (0.4, 0.28))),
            ("p", "light", ((0.4, 0.28), (0.4, 0.74), (0.0, 0.28))),
            ("d", "main", 0.5, 0.84, 0.075, 0.06),
            ("d", "main", 0.42, 1.0, 0.075, 0.06),
        ),
    ),
    "umbrella": (
        (
            ("l", "bark", 0.08, ((0.5, 0.4), (0.5, 0.86), (0.58, 0.93), (0.68, 0.84))),
            (
                "p",
                "main",
                (
                    (0.0, 0.5), (0.04, 0.32), (0.16, 0.15), (0.34, 0.04), (0.5, 0.01),
                    (0.66, 0.04), (0.84, 0.15), (0.96, 0.32), (1.0, 0.5), (0.84, 0.42),
                    (0.67, 0.5), (0.5, 0.42), (0.33, 0.5), (0.16, 0.42),
                ),
            ),
        ),
        (("p", "light", ((0.5, 0.01), (0.67, 0.5), (0.5, 0.42), (0.33, 0.5))),),
    ),
    "flower": (
        (
            ("l", "leaf", 0.09, ((0.4, 0.4), (0.4, 0.98))),
            ("d", "leaf", 0.57, 0.8, 0.16, 0.085),
            *_petals(0.4, 0.29, 0.2, 0.135, 5),
        ),
        (("d", "pollen", 0.4, 0.29, 0.13, 0.13),),
    ),
    "hat": (
        (
            ("p", "main", ((0.22, 0.02), (0.78, 0.02), (0.74, 0.54), (0.26, 0.54))),
            ("d", "main", 0.5, 0.56, 0.5, 0.11),
        ),
        (("p", "white", ((0.245, 0.32), (0.755, 0.32), (0.745, 0.47), (0.255, 0.47))),),
    ),
}  # fmt: skip

OBJECT_NAMES: tuple[str, ...] = tuple(_ICONS)
"""Everything that the bundled world can draw; an object's id is its index here."""


def _stroke(part: _Part, tones: Mapping[str, Color], x: float, y: float, k: float) -> Stroke:
    """One row of the table as a stroke: moved by (-x, -y), scaled by k."""
    kind, tone, *rest = part
    color = tones[tone]
    if kind == "d":
        cx, cy, rx, ry = rest
        return Disk(((cx - x) * k, (cy - y) * k), (rx * k, ry * k), color)
    points = tuple(((px - x) * k, (py - y) * k) for px, py in rest[-1])
    return Polygon(points, color) if kind == "p" else Line(points, rest[0] * k, color)


def corners_of(strokes: Sequence[Stroke]) -> Corners:
    """The smallest box around all strokes, in units."""
    boxes = [stroke.box() for stroke in strokes]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _extent(icon: _Icon) -> tuple[Point, Point]:
    tones = dict.fromkeys(("main", "dark", "light"), INK) | dict(_FIXED)
    strokes = [_stroke(part, tones, 0.0, 0.0, 1.0) for part in (*icon[0], *icon[1])]
    left, top, right, bottom = corners_of(strokes)
    return ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)


_EXTENT = {name: _extent(icon) for name, icon in _ICONS.items()}


def icon_size(name: str) -> Point:
    """Width and height of an icon in units; the longer one is 1."""
    width, height = _EXTENT[name][1]
    longest = max(width, height)
    return width / longest, height / longest


def icon_strokes(
    name: str,
    *,
    center: Point,
    size: float,
    color: Color,
    halo: float = 0.0,
) -> list[Stroke]:
    """Paintable strokes of one icon.

    Args:
        name: one of :data:`OBJECT_NAMES`.
        center: middle of the icon's extent, units.
        size: its longer side, units.
        color: its main colour, RGB 0-255.
        halo: width of a white rim outside of the dark outline, units; 0 for none.
    """
    (x, y), (width, height) = _EXTENT[name]
    k = size / max(width, height)
    x, y = x - center[0] / k, y - center[1] / k
    tones = {"main": color, "dark": shade(color, -0.38), "light": shade(color, 0.55), **_FIXED}
    silhouette, detail = _ICONS[name]
    shapes = [_stroke(part, tones, x, y, k) for part in silhouette]
    rim = [shape.edge(OUTLINE + halo, WHITE) for shape in shapes] if halo else []
    return [
        *rim,
        *outlined(shapes),
        *(_stroke(part, tones, x, y, k) for part in detail),
    ]
