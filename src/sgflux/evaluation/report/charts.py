"""Geometry of the report's line charts; ``charts.html.jinja`` draws them as inline SVG.

Coordinates are CSS pixels of the drawing's own ``viewBox``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Series:
    """One line of a line chart.

    Attributes:
        label: Name in the legend.
        points: Points (x, y), sorted by x.
        style: Class of the page's style, which gives the colour.
        dots: Mark every point.
    """

    label: str
    points: Sequence[tuple[float, float]]
    style: str
    dots: bool = False


@dataclass(frozen=True)
class LineChart:
    """Lines over a common axis.

    Attributes:
        title: Heading of the chart.
        series: Lines, at least one of them with a point.
        reference: Height of a dashed horizontal line; None: no line.
        percent: Whether the ordinates are shares.
    """

    title: str
    series: Sequence[Series]
    reference: float | None = None
    percent: bool = False

    width, height, left, right, top, bottom = 350, 236, 46, 18, 10, 46

    @cached_property
    def x_end(self) -> float:
        """The largest abscissa, or 1."""
        return max(x for one in self.series for x, _ in one.points) or 1.0

    @cached_property
    def y_range(self) -> tuple[float, float]:
        """The least and the largest ordinate of lines and reference."""
        ordinates = [y for one in self.series for _, y in one.points]
        ordinates += [] if self.reference is None else [self.reference]
        return min(ordinates), max(ordinates)

    @property
    def x_ticks(self) -> list[float]:
        """Abscissas that are labelled."""
        return [tick for tick in _ticks(0.0, self.x_end, 4) if tick <= self.x_end]

    @cached_property
    def y_ticks(self) -> list[float]:
        """Ordinates that are labelled."""
        return _ticks(*self.y_range, 5)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates of a point."""
        low, high = min(self.y_range[0], self.y_ticks[0]), max(self.y_range[1], self.y_ticks[-1])
        return (
            self.left + (self.width - self.left - self.right) * x / self.x_end,
            self.top + (self.height - self.top - self.bottom) * (high - y) / ((high - low) or 1.0),
        )


def smooth(points: Sequence[tuple[float, float]], *, window: int) -> list[tuple[float, float]]:
    """Each point's mean with its neighbours, over up to ``window`` points."""
    half = window // 2
    return [
        (x, math.fsum(y for _, y in near) / len(near))
        for i, (x, _) in enumerate(points)
        if (near := points[max(0, i - half) : i + half + 1])
    ]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from at most ``low`` to at most ``high``, about ``count`` of them."""
    span = max((high - low) or abs(high) or 1.0, 1e-300)
    magnitude = 10.0 ** math.floor(math.log10(span / count))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - count))
    first = math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]
