"""Figures with their 95 % intervals: pure functions of rows, one for each observation.

Observations of one image (its triples, its noise seeds) are not independent, so the image is their
cluster. A macro figure is the mean of the groups' means, so that every predicate counts the same
however often it occurs. The intervals are those of :mod:`sgflux.intervals`: shares (values from 0
to 1) have exact intervals at their effective number of observations, so that also 0 % and 100 %
have a width; numbers without bounds have Student's t over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgflux.intervals import (
    Interval,
    Layout,
    difference_interval,
    mean_interval,
    share_interval,
)

Row = tuple[float, str, Hashable]
"""(value, group, cluster) of an observation: mostly 0, 1/2 or 1; the predicate; the image."""
Rows = Sequence[Row]


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and from how much it comes.

    Attributes:
        value: None where there was nothing to observe.
        ci95: (low, high); None where there was nothing to observe, or one cluster alone of numbers
            without bounds.
        n: number of observations.
        clusters: number of images that they come from.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    clusters: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**vars(self), "ci95": None if self.ci95 is None else list(self.ci95)}


@dataclass(frozen=True)
class MacroEstimate:
    """The mean over groups, and every group by itself."""

    overall: Estimate
    per_group: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON: the overall figure as ``macro``, the groups as predicates.

        ``predicates`` is how many of them the mean is over: those that were observed.
        """
        overall = self.overall.to_json()
        return {
            "macro": overall.pop("value"),
            **overall,
            "predicates": len(self.per_group),
            "per_predicate": {name: value.to_json() for name, value in self.per_group.items()},
        }


NOTHING = Estimate(value=None, ci95=None, n=0, clusters=0)
"""The figure of no observations."""


def mean_estimate(rows: Rows) -> Estimate:
    """Return the plain mean of shares over all observations, whatever their groups.

    Args:
        rows: Observations with values from 0 to 1; may be none at all.

    Raises:
        ValueError: on a value outside of [0, 1].
    """
    return _estimate(_ungrouped(rows), share_interval)


def macro_estimate(rows: Rows) -> MacroEstimate:
    """Return the mean of the groups' mean shares, and the groups' means.

    Args:
        rows: Observations with values from 0 to 1; may be none at all.

    Raises:
        ValueError: on a value outside of [0, 1].
    """
    names = sorted({group for _, group, _ in rows})
    per_group = {name: _estimate(_of_groups(rows, {name}), share_interval) for name in names}
    return MacroEstimate(_estimate(rows, share_interval), per_group)


def difference_estimate(first: Rows, second: Rows) -> Estimate:
    """Return the macro share of ``first`` minus that of ``second``, over shared groups.

    What two arms say of the same image stays paired.

    Args:
        first: Observations with values from 0 to 1.
        second: Observations with values from 0 to 1.

    Returns:
        ``n`` is the number of observations of both sides together.
    """
    shared = {group for _, group, _ in first} & {group for _, group, _ in second}
    if not shared:
        return NOTHING
    sides = [_of_groups(rows, shared) for rows in (first, second)]
    (one, one_layout), (two, two_layout) = map(_columns, sides)
    found = difference_interval(one, one_layout, two, two_layout)
    clusters = len({cluster for side in sides for _, _, cluster in side})
    return _of_interval(found, n=len(one) + len(two), clusters=clusters)


def level_estimate(rows: Rows) -> Estimate:
    """Return the plain mean of numbers without bounds: errors, gaps, distances.

    Args:
        rows: Observations; may be none at all; groups do not count.
    """
    return _estimate(_ungrouped(rows), mean_interval)


def _estimate(rows: Rows, interval: Callable[[np.ndarray, Layout], Interval]) -> Estimate:
    """Return the mean over groups with its interval; nothing of no rows."""
    if not rows:
        return NOTHING
    values, layout = _columns(rows)
    return _of_interval(interval(values, layout), n=len(rows), clusters=layout.num_clusters)


def _columns(rows: Rows) -> tuple[np.ndarray, Layout]:
    """Return the values, which must be finite, and how they are grouped."""
    values, groups, clusters = zip(*rows, strict=True)
    if not all(map(math.isfinite, values)):
        raise ValueError("every observed value must be finite")
    return np.asarray(values), Layout(groups, clusters)


def _ungrouped(rows: Rows) -> Rows:
    return [(value, "all", cluster) for value, _, cluster in rows]


def _of_groups(rows: Rows, groups: Collection[str]) -> Rows:
    return [row for row in rows if row[1] in groups]


def _of_interval(found: Interval, *, n: int, clusters: int) -> Estimate:
    low, high = float(found.low[0]), float(found.high[0])
    is_known = math.isfinite(low) and math.isfinite(high)
    return Estimate(
        value=float(found.value[0]),
        ci95=(low, high) if is_known else None,
        n=n,
        clusters=clusters,
    )
