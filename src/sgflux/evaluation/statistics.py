"""Statistics of a good trial: paired differences, tests and power.

Two arms draw the same items from the same noise, so what they reach is compared pair by pair. The
cluster is the image: its statements and its noises are not independent of each other.

Shapes: N paired observations, C clusters, G groups (predicates), R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from sgflux.evaluation.metrics import Estimate, Rows, difference_estimate
from sgflux.intervals import Layout

POWER = 0.8
"""Probability with which a difference is to be detected."""
RESAMPLES = 2000
"""Number of resamples of a bootstrap."""
_TWO_SIDED = float(ndtri(0.975))


# --- two arms -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What a paired comparison found.

    Attributes:
        difference: Macro share of the first arm minus that of the second one, with the interval of
            :func:`~sgflux.intervals.difference_interval`; ``n`` is the number of pairs.
        bootstrap95: Percentile interval of the clustered bootstrap; None of a single cluster.
        better: Number of clusters in which the first arm has more right than the second one.
        worse: Number of clusters in which it has fewer.
        p_sign: Two-sided p-value of the exact sign test.
    """

    difference: Estimate
    bootstrap95: tuple[float, float] | None
    better: int
    worse: int
    p_sign: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; the adjusted p-value is that of no further comparison."""
        found = self.difference
        return {
            "difference": found.value,
            "ci95": None if found.ci95 is None else list(found.ci95),
            "bootstrap95": None if self.bootstrap95 is None else list(self.bootstrap95),
            "p_sign": self.p_sign,
            "p_holm": self.p_sign,
            "n": found.n,
            "clusters": found.clusters,
            "n_discordant": self.better + self.worse,
            "better": self.better,
            "smallest_detectable_difference": smallest_detectable_difference(found),
        }


def compare(first: Rows, second: Rows) -> Comparison:
    """Compare two arms on the same items and noises.

    Args:
        first: N observations of the one arm, with values from 0 to 1; at least one.
        second: The same observations of the other arm, in the same order.

    Raises:
        ValueError: if there is none, or the observations are not the same.
    """
    if [row[1:] for row in first] != [row[1:] for row in second] or not first:
        raise ValueError("a paired comparison needs the same observations on both sides")
    found = difference_estimate(first, second)
    layout = Layout([group for _, group, _ in first], [cluster for *_, cluster in first])
    gaps = np.array([one[0] - two[0] for one, two in zip(first, second, strict=True)])
    of_cluster = np.bincount(layout.cluster_of, gaps)
    better, worse = int((of_cluster > 1e-9).sum()), int((of_cluster < -1e-9).sum())
    return Comparison(
        difference=Estimate(found.value, found.ci95, n=len(first), clusters=found.clusters),
        bootstrap95=bootstrap_interval(gaps, layout),
        better=better,
        worse=worse,
        p_sign=sign_test(better, worse),
    )


def compare_all(pairs: Mapping[str, tuple[Rows, Rows]]) -> dict[str, dict[str, Any]]:
    """Compare every pair, as plain JSON; ``p_holm`` is adjusted over all of them.

    Args:
        pairs: Name -> two sides as for :func:`compare`; pairs without observations are left out.
    """
    found = {name: compare(*sides).to_json() for name, sides in pairs.items() if sides[0]}
    adjusted = holm([entry["p_sign"] for entry in found.values()])
    for entry, p in zip(found.values(), adjusted, strict=True):
        entry["p_holm"] = p
    return found


def bootstrap_interval(
    values: np.ndarray, layout: Layout, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean over groups, clusters drawn with replacement.

    It stands beside the intervals of :mod:`sgflux.intervals` because papers report it. Where few
    clusters differ it is too narrow, and where none does it has no width.

    Args:
        values: (N,) float, such as differences of pairs.
        layout: Groups and clusters of the N observations.
        resamples: Number of resamples.
        seed: Random seed of the resamples.

    Returns:
        (low, high), or None of a single cluster.

    Source:
        Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x, the cluster bootstrap.
    """
    count = layout.num_clusters
    if count < 2:
        return None
    sums, sizes = np.zeros((2, count, layout.num_groups))
    np.add.at(sums, (layout.cluster_of, layout.group_of), values)
    np.add.at(sizes, (layout.cluster_of, layout.group_of), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)  # (R, C)
    with np.errstate(invalid="ignore"):  # a group that was not drawn has no mean
        means = (drawn @ sums) / (drawn @ sizes)  # (R, G)
    low, high = np.quantile(np.nanmean(means, axis=1), [0.025, 0.975])
    return float(low), float(high)


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of as many clusters on either side; ties do not count.

    Source:
        Dixon and Mood 1946, doi:10.1080/01621459.1946.10501898.
    """
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests, so that any false alarm is as rare as the level says.

        p_(i) -> max over j <= i of min(1, (m - j + 1) p_(j)),  the m p-values in rising order

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6(2), page 65.
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    rising = np.asarray(p_values, float)[order] * np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(rising))
    return [float(p) for p in adjusted]


# --- power --------------------------------------------------------------------------------------


def smallest_detectable_difference(found: Estimate, *, power: float = POWER) -> float | None:
    """Return the true difference that a test at 5 % detects with this power.

        (z(0.975) + z(power)) * standard error,  standard error = half of the interval / z(0.975)

    Args:
        found: Difference with its 95 % interval, which says how exact as many clusters are.
        power: Probability to detect it, in (0.5, 1).

    Returns:
        A difference of shares, or None if not even one of 100 points would be detected.

    Source:
        Bloom 1995, doi:10.1177/0193841X9501900504, the minimum detectable effect.
    """
    if found.ci95 is None:
        return None
    low, high = found.ci95
    smallest = (1 + float(ndtri(power)) / _TWO_SIDED) * (high - low) / 2
    return smallest if smallest < 1 else None


def clusters_needed(found: Estimate, difference: float, *, power: float = POWER) -> int | None:
    """Return how many clusters like those of a comparison detect a true difference.

        C * (smallest detectable difference / difference)^2,  since the error falls with sqrt(C)

    Args:
        found: A comparison's difference.
        difference: Difference of shares that is to be detected, > 0.
        power: Probability to detect it, in (0.5, 1).

    Returns:
        Number of clusters; None if the comparison says nothing about it.

    Raises:
        ValueError: if the difference is not above 0.
    """
    if difference <= 0:
        raise ValueError(f"the difference must be above 0, got {difference}")
    smallest = smallest_detectable_difference(found, power=power)
    if smallest is None:
        return None
    return math.ceil(found.clusters * (smallest / difference) ** 2 - 1e-9)
