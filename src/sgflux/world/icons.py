"""Flat icons of the bundled world's objects, and the strokes that everything in it is made of.

A picture is a list of strokes (:class:`Polygon`, :class:`Disk`, :class:`Line`), painted in order on
a supersampled canvas. Coordinates are in *units*: x to the right, y downward, an icon's longer side
is about 1 unit. No fonts: the same strokes give the same bytes everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import ImageDraw

from sgflux.data.boxes import Corners
from sgflux.files.reading import table_beside

Color = tuple[int, int, int]
Point = tuple[float, float]

INK: Color = (28, 26, 38)
WHITE: Color = (255, 255, 255)
OUTLINE = 0.045
"""Width of the dark line around a shape, in units."""

_TABLE = table_beside(__file__)
"""icons.toml, whose head explains the fields."""

_FIXED: Mapping[str, Color] = {name: tuple(rgb) for name, rgb in _TABLE["tones"].items()}


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled polygon."""

    points: tuple[Point, ...]
    color: Color

    def box(self) -> Corners:
        """Return the extent in units."""
        return _around(self.points, 0.0)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, dx: float, dy: float) -> None:
        """Fill on a canvas: pixel = unit * scale + offset."""
        draw.polygon([(x * scale + dx, y * scale + dy) for x, y in self.points], fill=self.color)

    def edge(self, width: float, color: Color) -> Stroke:
        """Return the line to paint under the shape so that it has an outline of ``width``."""
        return Line((*self.points, self.points[0]), 2 * width, color)


@dataclass(frozen=True, slots=True)
class Disk:
    """A filled, axis-aligned ellipse."""

    center: Point
    radii: Point
    color: Color

    def box(self) -> Corners:
        """Return the extent in units."""
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
        """Return the shape to paint under this one so that it has an outline of ``width``."""
        return Disk(self.center, (self.radii[0] + width, self.radii[1] + width), color)


@dataclass(frozen=True, slots=True)
class Line:
    """A thick line through points, with round joints and ends."""

    points: tuple[Point, ...]
    width: float
    color: Color

    def box(self) -> Corners:
        """Return the extent in units."""
        return _around(self.points, self.width / 2)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, dx: float, dy: float) -> None:
        """Stroke on a canvas: pixel = unit * scale + offset."""
        points = [(x * scale + dx, y * scale + dy) for x, y in self.points]
        radius = self.width * scale / 2
        draw.line(points, fill=self.color, width=max(1, round(2 * radius)))
        for x, y in points if points[0] != points[-1] else points[:-1]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.color)

    def edge(self, width: float, color: Color) -> Stroke:
        """Return the line to paint under this one so that it has an outline of ``width``."""
        return Line(self.points, self.width + 2 * width, color)


Stroke = Polygon | Disk | Line


def _around(points: Sequence[Point], margin: float) -> Corners:
    xs, ys = zip(*points, strict=True)
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin


def outlined(shapes: Sequence[Stroke], width: float = OUTLINE, color: Color = INK) -> list[Stroke]:
    """Return the shapes with one common outline: all edges first, then all fills."""
    return [*(shape.edge(width, color) for shape in shapes), *shapes]


def shade(color: Color, amount: float) -> Color:
    """Mix with white (``amount`` > 0) or black (``amount`` < 0); |amount| is the share, 0 to 1."""
    return mix(color, WHITE if amount > 0 else (0, 0, 0), abs(amount))


def mix(first: Color, second: Color, share: float) -> Color:
    """Return the color between two, ``share`` of the way from the first, 0 to 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


# --- icons --------------------------------------------------------------------------------------

_Part = Mapping[str, Any]
"""One row of icons.toml; read only by :func:`_strokes`."""

_ICONS: Mapping[str, Mapping[str, Any]] = _TABLE["icons"]

OBJECT_NAMES: tuple[str, ...] = tuple(_ICONS)
"""Everything that the bundled world can draw; an object's id is its index here."""

COLORS: Mapping[str, tuple[Color, Color]] = {name: icon["colors"] for name, icon in _ICONS.items()}
"""The two ends of the range of main colours of every object."""


def _plain_parts(part: _Part) -> Iterator[_Part]:
    """Yield a row as polygons, lines and disks: petals and sectors are several."""
    if not {"petals", "sectors"} & part.keys():
        yield part
        return
    (x, y), radius, tone = part["center"], part["radius"], part["tone"]
    if "petals" in part:
        for index in range(part["petals"]):
            angle, reach = 2 * math.pi * (index + 0.25) / part["petals"], part["reach"]
            center = (x + reach * math.cos(angle), y + reach * math.sin(angle))
            yield {"tone": tone, "disk": center, "radii": (radius, radius)}
        return
    width = 2 * math.pi / part["sectors"]
    for index in range(0, part["sectors"], 2):
        start = 2 * math.pi * index / part["sectors"]
        arc = [start + width * step / 4 for step in range(5)]
        rim = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in arc]
        yield {"tone": tone, "polygon": [(x, y), *rim]}


def _strokes(
    parts: Iterable[_Part], tones: Mapping[str, Color], x: float, y: float, k: float
) -> list[Stroke]:
    """Return rows of the table as strokes: moved by (-x, -y), scaled by k."""

    def placed(point: Point) -> Point:
        return (point[0] - x) * k, (point[1] - y) * k

    strokes: list[Stroke] = []
    for part in itertools.chain.from_iterable(map(_plain_parts, parts)):
        color = tones[part["tone"]]
        if "disk" in part:
            rx, ry = part["radii"]
            strokes.append(Disk(placed(part["disk"]), (rx * k, ry * k), color))
        elif "line" in part:
            strokes.append(Line(tuple(map(placed, part["line"])), part["width"] * k, color))
        else:
            strokes.append(Polygon(tuple(map(placed, part["polygon"])), color))
    return strokes


def corners_of(strokes: Sequence[Stroke]) -> Corners:
    """Return the smallest box around all strokes, in units."""
    boxes = [stroke.box() for stroke in strokes]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _extent(icon: Mapping[str, Any]) -> tuple[Point, Point]:
    tones = dict.fromkeys(("main", "dark", "light"), INK) | dict(_FIXED)
    strokes = _strokes((*icon["silhouette"], *icon["detail"]), tones, 0.0, 0.0, 1.0)
    left, top, right, bottom = corners_of(strokes)
    return ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)


_EXTENT = {name: _extent(icon) for name, icon in _ICONS.items()}


def icon_size(name: str) -> Point:
    """Return width and height of an icon in units; the longer one is 1."""
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
    """Return paintable strokes of one icon.

    Args:
        name: one of :data:`OBJECT_NAMES`.
        center: middle of the icon's extent, units.
        size: Longer side of the icon, units.
        color: Main colour of the icon, RGB 0-255.
        halo: width of a white rim outside of the dark outline, units; 0 for none.
    """
    (x, y), (width, height) = _EXTENT[name]
    k = size / max(width, height)
    x, y = x - center[0] / k, y - center[1] / k
    tones = {"main": color, "dark": shade(color, -0.38), "light": shade(color, 0.55), **_FIXED}
    shapes = _strokes(_ICONS[name]["silhouette"], tones, x, y, k)
    rim = [shape.edge(OUTLINE + halo, WHITE) for shape in shapes] if halo else []
    return [*rim, *outlined(shapes), *_strokes(_ICONS[name]["detail"], tones, x, y, k)]
