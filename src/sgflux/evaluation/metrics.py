"""Figures with their 95 % intervals: pure functions of observations.

Observations of one image (its triples, its noise seeds) are not independent, so the image is their
cluster. A macro figure is the mean of the groups' means, so that every predicate counts the same
however often it occurs. The intervals are those of :mod:`sgflux.intervals`: shares (values from 0
to 1) have exact intervals at their effective number of observations, so that also 0 % and 100 %
have a width; numbers without bounds have Student's t over images.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
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


@dataclass(frozen=True)
class Observations:
    """N numbers, each with the group that it counts for and the cluster that it belongs to.

    Attributes:
        values: what was observed, mostly 0, 1/2 or 1.
        groups: the predicate, or any other label.
        clusters: the image.

    Raises:
        ValueError: if the three differ in length, or a value is not finite.
    """

    values: Sequence[float]
    groups: Sequence[str]
    clusters: Sequence[Hashable]

    def __post_init__(self) -> None:
        """Check that every value has a group and a cluster."""
        lengths = len(self.values), len(self.groups), len(self.clusters)
        if len(set(lengths)) > 1:
            raise ValueError(f"values, groups and clusters differ in length: {lengths}")
        if not all(math.isfinite(value) for value in self.values):
            raise ValueError("every observed value must be finite")

    def __len__(self) -> int:
        """Number of observations."""
        return len(self.values)

    def of_groups(self, groups: Collection[str]) -> Observations:
        """The observations of these groups, in their order."""
        rows = [row for row, group in enumerate(self.groups) if group in groups]
        return Observations(
            [self.values[i] for i in rows],
            [self.groups[i] for i in rows],
            [self.clusters[i] for i in rows],
        )


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
        """As plain JSON."""
        return {**vars(self), "ci95": None if self.ci95 is None else list(self.ci95)}

    def __str__(self) -> str:
        """As a percentage with its interval."""
        if self.value is None:
            return "nothing to measure"
        if self.ci95 is None:
            return f"{self.value:.1%} (n = {self.n})"
        return f"{self.value:.1%} [{self.ci95[0]:.1%}, {self.ci95[1]:.1%}] (n = {self.n})"


@dataclass(frozen=True)
class MacroEstimate:
    """The mean over groups, and every group by itself."""

    overall: Estimate
    per_group: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; the overall figure is called ``macro``, the groups are predicates.

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


def mean_estimate(observations: Observations) -> Estimate:
    """The plain mean of shares over all observations, whatever their groups.

    Args:
        observations: values from 0 to 1; may be none at all.

    Raises:
        ValueError: on a value outside of [0, 1].
    """
    return _share(_ungrouped(observations))


def macro_estimate(observations: Observations) -> MacroEstimate:
    """The mean of the groups' mean shares, and the groups' means.

    Args:
        observations: values from 0 to 1; may be none at all.

    Raises:
        ValueError: on a value outside of [0, 1].
    """
    names = sorted(set(observations.groups))
    per_group = {name: _share(observations.of_groups({name})) for name in names}
    return MacroEstimate(_share(observations), per_group)


def difference_estimate(first: Observations, second: Observations) -> Estimate:
    """Macro share of ``first`` minus macro share of ``second``, over the groups that both have.

    What two arms say of the same image stays paired.

    Args:
        first: values from 0 to 1.
        second: values from 0 to 1.

    Returns:
        ``n`` is the number of observations of both sides together.
    """
    shared = set(first.groups) & set(second.groups)
    if not shared:
        return NOTHING
    first, second = first.of_groups(shared), second.of_groups(shared)
    found = difference_interval(
        np.asarray(first.values), _layout(first), np.asarray(second.values), _layout(second)
    )
    clusters = len({*first.clusters, *second.clusters})
    return _estimate(found, n=len(first) + len(second), clusters=clusters)


def level_estimate(observations: Observations) -> Estimate:
    """The plain mean of numbers without bounds: errors, gaps, distances.

    Args:
        observations: may be none at all; groups do not count.
    """
    if not len(observations):
        return NOTHING
    one_group = _ungrouped(observations)
    layout = _layout(one_group)
    found = mean_interval(np.asarray(one_group.values), layout)
    return _estimate(found, n=len(one_group), clusters=layout.num_clusters)


def _share(observations: Observations) -> Estimate:
    """The macro share of values from 0 to 1."""
    if not len(observations):
        return NOTHING
    layout = _layout(observations)
    found = share_interval(np.asarray(observations.values), layout)
    return _estimate(found, n=len(observations), clusters=layout.num_clusters)


def _ungrouped(observations: Observations) -> Observations:
    return Observations(observations.values, ["all"] * len(observations), observations.clusters)


def _layout(observations: Observations) -> Layout:
    return Layout(observations.groups, observations.clusters)


def _estimate(found: Interval, *, n: int, clusters: int) -> Estimate:
    low, high = float(found.low[0]), float(found.high[0])
    is_known = math.isfinite(low) and math.isfinite(high)
    return Estimate(
        value=float(found.value[0]),
        ci95=(low, high) if is_known else None,
        n=n,
        clusters=clusters,
    )
