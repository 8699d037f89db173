"""95 % intervals of shares that hold near 0 and 1, with clusters, and for means over groups.

A share is a mean of values from 0 to 1. Observations of one cluster (the statements, noises and
comparisons of one picture) are not independent, and a macro figure is the mean of its groups'
means. Both are taken into account by an effective number of observations n*: as many independent
yes-or-no observations would vary as much. The interval is then the exact one (Clopper-Pearson) of
n* observations, so a share of exactly 0 or 1 has an interval with a width.

    share  p   = sum_i w_i y_i,            w_i = 1 / (G n_group(i)), which sum to 1
    V          = sum_clusters (sum_i w_i (y_i - mean_group(i)) sqrt(C_group / (C_group - 1)))^2
    n*         = p (1 - p) / V, guarded:

- Where few clusters differ from their group's mean, V says little. Its design effect is then
  shrunk towards that of :data:`PRIOR_CORRELATION` within clusters, the more, the fewer they are
  (:data:`PRIOR_CLUSTERS`).
- Values between 0 and 1 (ties) vary less than yes-or-no ones. How much less is smoothed by
  :data:`PRIOR_EXTREMES` clusters with the largest possible spread.
- n* shrinks by (t_N / t_C)^2, the quantiles of Student's t for as many observations and clusters.

``benchmarks/interval_coverage.py`` measures how often these intervals hold, and how wide they are.

Shapes: N observations, C clusters, G groups; a leading R evaluates R sets of values at once.

Source: the effective number and the t quantiles are those of Korn and Graubard 1998, Survey
Methodology 24(2), page 193; the exact interval is that of Clopper and Pearson 1934,
doi:10.1093/biomet/26.4.404; for differences see :func:`difference_interval`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

PRIOR_CLUSTERS = 2.0
"""Number of clusters that the assumed correlation within clusters counts for."""
PRIOR_EXTREMES = 2.0
"""Number of clusters that the largest possible spread of the values counts for."""
PRIOR_CORRELATION = 0.4
_NOTHING = 1e-12


@dataclass(frozen=True)
class Interval:
    """Shares with their 95 % intervals, each of the shape (R,).

    Attributes:
        value: Shares.
        low: Lower ends, in [0, 1].
        high: Upper ends, in [0, 1].
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Layout:
    """Which group and which cluster each of N observations belongs to."""

    def __init__(self, groups: Sequence[Hashable], clusters: Sequence[Hashable]) -> None:
        """Count and weigh.

        Args:
            groups: N labels; every group counts the same in the mean.
            clusters: N labels; observations of one cluster may depend on each other.

        Raises:
            ValueError: if there is none, or not as many of both.
        """
        if len(groups) != len(clusters) or not groups:
            raise ValueError(f"{len(groups)} groups and {len(clusters)} clusters")
        self.group_of, self.names = _numbered(groups)
        self.cluster_of, self.clusters = _numbered(clusters)
        self.num_groups, self.num_clusters = len(self.names), len(self.clusters)
        self.count = len(groups)
        sizes = np.bincount(self.group_of)
        self.weights = 1.0 / (self.num_groups * sizes[self.group_of])
        pairs = np.unique(np.stack([self.group_of, self.cluster_of]), axis=1)
        self._clusters_of_group = np.bincount(pairs[0], minlength=self.num_groups)
        self._sizes = sizes

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of each group, (R, G), of (R, N) values."""
        return _summed(values, self.group_of) / self._sizes

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of the groups' means, (R,), of (R, N) values; exact where all values agree."""
        return self.means(values).mean(axis=1)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """What each cluster adds to the deviation of the mean over groups, (R, C).

        The sum of their squares estimates the variance of that mean. A group of one cluster says
        nothing of its spread: the mean over all groups stands in for its own mean.
        """
        several = self._clusters_of_group > 1
        overall = self.mean(values)
        centers = np.where(several, self.means(values), overall[:, None])
        inflation = np.ones(self.num_groups)
        number = self._clusters_of_group[several]
        inflation[several] = np.sqrt(number / (number - 1))
        if self.num_groups > 1 and not several.any() and self.num_clusters > 1:
            inflation[:] = np.sqrt(self.num_clusters / (self.num_clusters - 1))
        deviations = values - centers[:, self.group_of]
        return _summed(deviations * (self.weights * inflation[self.group_of]), self.cluster_of)

    def effective_count(self, values: np.ndarray) -> np.ndarray:
        """n* of the module's docstring, (R,), for (R, N) values from 0 to 1."""
        share = self.mean(values)
        independent = float((self.weights**2).sum())
        together = float((np.bincount(self.cluster_of, self.weights) ** 2).sum())
        squares = self.spread(values) ** 2
        variance = squares.sum(axis=1)
        # In how many clusters the variance was seen: that many if all add the same to it.
        seen = variance**2 / np.maximum((squares**2).sum(axis=1), 1e-300)
        seen = np.where(variance > 1e-20, seen, 0.0)
        observed = ((values - share[:, None]) ** 2) @ self.weights
        largest = share * (1 - share)
        relative = np.where(largest > _NOTHING, observed / np.maximum(largest, _NOTHING), 1.0)
        smoothed = self.num_clusters * relative + PRIOR_EXTREMES
        relative = smoothed / (self.num_clusters + PRIOR_EXTREMES)
        assumed = 1 + PRIOR_CORRELATION * (together / independent - 1)
        effect = variance / np.maximum(observed * independent, 1e-300)
        effect = np.where(observed > _NOTHING, effect, assumed)
        effect = (seen * effect + PRIOR_CLUSTERS * assumed) / (seen + PRIOR_CLUSTERS)
        freedom = student_t95(self.count) / student_t95(max(1, self.num_clusters - 1))
        return np.maximum(1.0, freedom**2 / (relative * independent * effect))


def share_interval(values: np.ndarray, layout: Layout) -> Interval:
    """The mean over groups of values from 0 to 1, and its 95 % interval.

    Args:
        values: (N,) or (R, N) float, in [0, 1].
        layout: Groups and clusters of the N observations.

    Raises:
        ValueError: on values outside of [0, 1], or not N of them.
    """
    values = _checked(values, layout)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("a share is a mean of values from 0 to 1")
    share = layout.mean(values)
    low, high = exact_interval(share, layout.effective_count(values))
    return Interval(share, np.minimum(low, share), np.maximum(high, share))


def difference_interval(
    first: np.ndarray, first_layout: Layout, second: np.ndarray, second_layout: Layout
) -> Interval:
    """One share minus another one, and its 95 % interval, paired by clusters of the same label.

        d - sqrt((p1-l1)^2 - 2 r (p1-l1)(u2-p2) + (u2-p2)^2)   to
        d + sqrt((u1-p1)^2 - 2 r (u1-p1)(p2-l2) + (p2-l2)^2)

    with the two shares' intervals l to u, and the correlation r of what the clusters add to both.
    A positive r narrows the interval, and is shrunk towards 0 where few clusters show it.

    Args:
        first: (N,) or (R, N) values of the one share, in [0, 1].
        first_layout: Groups and clusters of the first values.
        second: (M,) or (R, M) values of the other one.
        second_layout: Groups and clusters of the second values.

    Returns:
        ``value``, ``low`` and ``high`` in [-1, 1].

    Source:
        Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C,
        method 10, with the exact intervals above in place of Wilson's.
    """
    one, other = share_interval(first, first_layout), share_interval(second, second_layout)
    places = {label: place for place, label in enumerate(second_layout.clusters)}
    shared = [
        (place, places[name]) for place, name in enumerate(first_layout.clusters) if name in places
    ]
    correlation = np.zeros(len(one.value))
    if shared:
        ours = first_layout.spread(_checked(first, first_layout))
        theirs = second_layout.spread(_checked(second, second_layout))
        left, right = map(list, zip(*shared, strict=True))
        products = ours[:, left] * theirs[:, right]
        scale = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum(axis=1))
        found = products.sum(axis=1) / np.maximum(scale, 1e-300)
        found = np.where(scale > 1e-20, found, 0.0).clip(-1, 1)
        seen = np.abs(products).sum(axis=1) ** 2 / np.maximum((products**2).sum(axis=1), 1e-300)
        correlation = np.where(found > 0, found * seen / (seen + PRIOR_CLUSTERS), found)
    down, up = one.value - one.low, one.high - one.value
    other_down, other_up = other.value - other.low, other.high - other.value
    below = down**2 - 2 * correlation * down * other_up + other_up**2
    above = up**2 - 2 * correlation * up * other_down + other_down**2
    value = one.value - other.value
    low, high = value - np.sqrt(below.clip(0)), value + np.sqrt(above.clip(0))
    return Interval(value, low.clip(-1, 1), high.clip(-1, 1))


def mean_interval(values: np.ndarray, layout: Layout) -> Interval:
    """The mean over groups of numbers without bounds, with Student's t over clusters.

    For errors, gaps and distances; of a single cluster the interval is endless.

    Args:
        values: (N,) or (R, N) float.
        layout: Groups and clusters of the N observations.
    """
    values = _checked(values, layout)
    mean = layout.mean(values)
    half = np.full(len(mean), np.inf)
    if layout.num_clusters > 1:
        deviation = np.sqrt((layout.spread(values) ** 2).sum(axis=1))
        half = student_t95(layout.num_clusters - 1) * deviation
    return Interval(mean, mean - half, mean + half)


def exact_interval(
    share: np.ndarray | float, count: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """The exact 95 % interval (Clopper-Pearson) of shares, low and high.

    Args:
        share: Shares in [0, 1], any shape.
        count: Number of independent observations behind it, > 0; need not be whole.
    """
    share, count = np.broadcast_arrays(np.asarray(share, float), np.asarray(count, float))
    hits, misses = share * count, (1 - share) * count
    least = 1e-6  # below, a hit or a miss is the rounding of none
    low = betaincinv(np.maximum(hits, least), misses + 1, 0.025)
    high = betaincinv(hits + 1, np.maximum(misses, least), 0.975)
    return np.where(hits <= least, 0.0, low), np.where(misses <= least, 1.0, high)


def student_t95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t with so many degrees of freedom, at least 1."""
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom}")
    return float(stdtrit(freedom, 0.975))


def _checked(values: np.ndarray, layout: Layout) -> np.ndarray:
    values = np.atleast_2d(np.asarray(values, float))
    if values.shape[-1] != layout.count:
        raise ValueError(f"{values.shape[-1]} values for {layout.count} observations")
    return values


def _numbered(labels: Sequence[Hashable]) -> tuple[np.ndarray, tuple[Hashable, ...]]:
    """Each label's number, and the labels in the order in which they first occur."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels]), tuple(numbers)


def _summed(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum over the columns of each label, (R, labels), of (R, N) values."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    return np.add.reduceat(values[:, order], starts, axis=1)
