"""Charts of the report as inline SVG: plain text, sharp at any size, coloured by the page's style.

Coordinates are CSS pixels of the drawing's own ``viewBox``. Colours are classes, so that a chart
follows the page into the dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 920
_LABELS = 112
_COLUMN = 58
_ROW = 27
_TOP, _BOTTOM = 26, 26


@dataclass(frozen=True)
class Bar:
    """A share with its interval.

    Attributes:
        value: Share in [0, 1]; None where nothing was observed.
        low: Lower end of the interval, or None.
        high: Upper end of the interval, or None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BarRow:
    """One line of a bar chart.

    Attributes:
        label: Text at the left of the line.
        main: Thick bar.
        reference: Thin bar below, to compare the main one with.
        further: Shares that stand at the right as numbers only.
    """

    label: str
    main: Bar
    reference: Bar
    further: Sequence[Bar] = ()


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


def bar_chart(rows: Sequence[BarRow], *, columns: Sequence[str], title: str) -> str:
    """Horizontal bars from 0 to 100 %, each with its 95 % whisker and its value at the right.

    Args:
        rows: Lines from top to bottom.
        columns: Headings of the values of main bars, references and further shares.
        title: Text for screen readers.
    """
    left, right = _LABELS, WIDTH - 16 - _COLUMN * len(columns)
    bottom = _TOP + _ROW * len(rows)
    ends = [WIDTH - 4 - _COLUMN * (len(columns) - 1 - place) for place in range(len(columns))]

    def x(share: float) -> float:
        return left + (right - left) * min(max(share, 0.0), 1.0)

    parts = [_open(WIDTH, bottom + _BOTTOM, title)]
    parts += [
        _text(end, _TOP - 10, name, "tick", "end") for end, name in zip(ends, columns, strict=True)
    ]
    for percent in (0, 25, 50, 75, 100):
        at = x(percent / 100)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 17, f"{percent} %", "tick", "middle"))
    for place, row in enumerate(rows):
        y = _TOP + _ROW * place
        parts.append(_text(left - 10, y + _ROW / 2 + 4, row.label, "label", "end"))
        parts += _bar(row.main, x, y + 4, 11, "graph")
        parts += _bar(row.reference, x, y + 17, 5, "base")
        shares = (row.main, row.reference, *row.further)
        for end, bar, style in zip(ends, shares, ("value", *["faint"] * len(shares)), strict=False):
            parts.append(_text(end, y + _ROW / 2 + 4, _share(bar), style, "end"))
    return "".join([*parts, "</svg>"])


def _bar(bar: Bar, x: Callable[[float], float], y: float, height: float, style: str) -> list[str]:
    if bar.value is None:
        return []
    start, end, middle = x(0.0), x(bar.value), y + height / 2
    width = max(end - start, 1.5)  # a zero is seen, too
    parts = [
        f'<rect class="{style}" x="{start:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height}" rx="1.5"/>'
    ]
    if bar.low is not None and bar.high is not None and bar.low < bar.high:
        low, high = x(bar.low), x(bar.high)
        parts.append(
            f'<path class="whisker" d="M{low:.1f} {middle - 2.5:.1f}v5M{low:.1f} {middle:.1f}'
            f'H{high:.1f}M{high:.1f} {middle - 2.5:.1f}v5"/>'
        )
    return parts


def _share(bar: Bar) -> str:
    return "–" if bar.value is None else f"{100 * bar.value:.0f} %"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    reference: float | None = None,
    percent: bool = False,
) -> str:
    """Lines over a common axis, with a legend below.

    Args:
        series: Lines, at least one of them with a point.
        title: Text for screen readers.
        reference: Height of a dashed horizontal line; None: no line.
        percent: Whether the ordinates are shares.
    """
    width, height, left, right, top, bottom = 350, 236, 46, 18, 10, 46
    points = [point for one in series for point in one.points]
    x_ticks = _ticks(0.0, max(x for x, _ in points), 4)
    ordinates = [y for _, y in points] + ([] if reference is None else [reference])
    y_ticks = _ticks(min(ordinates), max(ordinates), 5)
    x_end = max(x for x, _ in points) or 1.0
    y_low, y_high = min(*ordinates, y_ticks[0]), max(*ordinates, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (width - left - right) * x / x_end,
            top + (height - top - bottom) * (y_high - y) / ((y_high - y_low) or 1.0),
        )

    parts = [_open(width, height, title)]
    for tick in y_ticks:
        _, y = place(0.0, tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        label = f"{100 * tick:.0f} %" if percent else f"{tick:g}"
        parts.append(_text(left - 7, y + 4, label, "tick", "end"))
    for tick in x_ticks:
        if tick <= x_end:
            x, _ = place(tick, y_low)
            parts.append(_text(x, height - bottom + 17, f"{tick:g}", "tick", "middle"))
    if reference is not None:
        _, y = place(0.0, reference)
        parts.append(
            f'<line class="mark" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    legend = float(left)
    for one in series:
        placed = [place(x, y) for x, y in one.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path class="line {one.style}" d="M{path}"/>')
        if one.dots:
            parts += [
                f'<circle class="dot {one.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
                for x, y in placed
            ]
        y = height - 9
        parts.append(f'<path class="line {one.style}" d="M{legend:.0f} {y - 4}h16"/>')
        parts.append(_text(legend + 21, y, one.label, "legend", "start"))
        legend += 32 + 6.1 * len(one.label)
    return "".join([*parts, "</svg>"])


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
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / count))
    step = min((m * magnitude for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - count))
    first = math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">'
    )


def _text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
