"""Rates with their 95 % intervals: pure functions of observations.

Observations of one image (its triples, its noise seeds) are not independent, so intervals come from
a bootstrap over whole clusters: images are drawn with replacement, and each brings along all that
was observed of it. A macro figure is the mean of the groups' means, so that every predicate counts
the same however often it occurs.

Shapes: N observations, C clusters, G groups, R resamples.

Source: the percentile bootstrap of Efron and Tibshirani 1993, chapter 13; over clusters as in
Davison and Hinkley 1997, section 3.8.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES = 2000
"""Bootstrap resamples where the caller does not say."""


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

    def select(self, keep: Sequence[bool]) -> Observations:
        """The observations whose entry in ``keep`` is true."""
        chosen = [index for index, kept in enumerate(keep) if kept]
        if len(keep) != len(self):
            raise ValueError(f"keep has {len(keep)} entries for {len(self)} observations")
        return Observations(
            [self.values[i] for i in chosen],
            [self.groups[i] for i in chosen],
            [self.clusters[i] for i in chosen],
        )


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and from how much it comes.

    Attributes:
        value: None where there was nothing to observe.
        ci95: (low, high); None with fewer than two clusters, of which no bootstrap can be drawn.
        n: number of observations.
        clusters: number of images that they come from.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    clusters: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "n": self.n,
            "clusters": self.clusters,
        }

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
        """As plain JSON; the overall figure is called ``macro``, the groups are predicates."""
        overall = self.overall.to_json()
        return {
            "macro": overall.pop("value"),
            **overall,
            "per_predicate": {name: value.to_json() for name, value in self.per_group.items()},
        }


NOTHING = Estimate(value=None, ci95=None, n=0, clusters=0)
"""The figure of no observations."""


def mean_estimate(
    observations: Observations, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """The plain mean over all observations, whatever their groups.

    Args:
        observations: may be none at all.
        seed: of the bootstrap.
        resamples: R.
    """
    one_group = Observations(
        observations.values, ["all"] * len(observations), observations.clusters
    )
    return macro_estimate(one_group, seed=seed, resamples=resamples).overall


def macro_estimate(
    observations: Observations, *, seed: int = 0, resamples: int = RESAMPLES
) -> MacroEstimate:
    """The mean of the groups' means, and the groups' means.

    A resample in which a group does not occur is averaged over the others.

    Args:
        observations: may be none at all.
        seed: of the bootstrap.
        resamples: R.
    """
    if not len(observations):
        return MacroEstimate(NOTHING, {})
    table = _Table([observations])
    (point,) = table.means(np.ones((1, table.num_clusters)))
    (drawn,) = table.resampled(seed=seed, resamples=resamples)
    per_group = {}
    for column, name in enumerate(table.groups):
        own = observations.select([group == name for group in observations.groups])
        num_clusters = len(set(own.clusters))
        per_group[name] = Estimate(
            value=float(point[0, column]),
            ci95=_interval(drawn[:, column]) if num_clusters > 1 else None,
            n=len(own),
            clusters=num_clusters,
        )
    overall = Estimate(
        value=float(point.mean()),
        ci95=_interval(_nanmean(drawn)) if table.num_clusters > 1 else None,
        n=len(observations),
        clusters=table.num_clusters,
    )
    return MacroEstimate(overall, per_group)


def difference_estimate(
    first: Observations, second: Observations, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Macro mean of ``first`` minus macro mean of ``second``, over the groups that both have.

    Clusters are drawn once for both, so that what two arms say of the same image stays paired.

    Returns:
        ``n`` is the number of observations of both sides together.
    """
    shared = set(first.groups) & set(second.groups)
    first = first.select([group in shared for group in first.groups])
    second = second.select([group in shared for group in second.groups])
    if not shared:
        return NOTHING
    table = _Table([first, second])
    one, other = table.means(np.ones((1, table.num_clusters)))
    drawn_one, drawn_other = table.resampled(seed=seed, resamples=resamples)
    differences = _nanmean(drawn_one) - _nanmean(drawn_other)
    return Estimate(
        value=float(one.mean() - other.mean()),
        ci95=_interval(differences) if table.num_clusters > 1 else None,
        n=len(first) + len(second),
        clusters=table.num_clusters,
    )


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """How far apart two sets of pictures are, as Gaussians over a network's features.

        d = |m - m_ref|^2 + Tr(S + S_ref - 2 (S S_ref)^(1/2))

    It is biased upwards where pictures are few: read it beside the distance of two sets that
    differ by their noise alone.

    Args:
        features: (N, D) float, N > 1.
        reference: (M, D) float, M > 1, of the same network.

    Returns:
        At least 0, in squared units of the features.

    Raises:
        ValueError: on shapes that do not fit.

    Source:
        Heusel et al. 2017, arXiv:1706.08500, Eq. 6.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features {features.shape} and reference {reference.shape}: expected (N, D), (M, D)"
        )
    if min(len(features), len(reference)) < 2:
        raise ValueError("a covariance needs at least two pictures on either side")
    ours, theirs = (np.asarray(part, np.float64) for part in (features, reference))
    covariance, other = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (ours, theirs))
    # (S S_ref)^(1/2) has the trace of (R S_ref R)^(1/2) with R = S^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    apart = ((ours.mean(0) - theirs.mean(0)) ** 2).sum()
    return max(0.0, float(apart + np.trace(covariance) + np.trace(other) - 2 * shared))


class _Table:
    """Sums and counts of several sets of observations by (cluster, group), clusters in common."""

    def __init__(self, sets: Sequence[Observations]) -> None:
        rows = {
            cluster: row
            for row, cluster in enumerate(
                dict.fromkeys(cluster for one in sets for cluster in one.clusters)
            )
        }
        self.groups = tuple(sorted({group for one in sets for group in one.groups}))
        columns = {group: column for column, group in enumerate(self.groups)}
        self.num_clusters = len(rows)
        self._sums, self._counts = [], []
        for one in sets:
            sums = np.zeros((len(rows), len(columns)))
            counts = np.zeros_like(sums)
            for value, group, cluster in zip(one.values, one.groups, one.clusters, strict=True):
                sums[rows[cluster], columns[group]] += value
                counts[rows[cluster], columns[group]] += 1
            self._sums.append(sums)
            self._counts.append(counts)

    def means(self, weights: np.ndarray) -> list[np.ndarray]:
        """Each set's group means, (R, G), under (R, C) weights; NaN where a group is absent."""
        with np.errstate(invalid="ignore"):
            return [
                (weights @ sums) / (weights @ counts)
                for sums, counts in zip(self._sums, self._counts, strict=True)
            ]

    def resampled(self, *, seed: int, resamples: int) -> list[np.ndarray]:
        """Each set's group means in R bootstrap resamples, (R, G)."""
        return self.means(_weights(self.num_clusters, seed, resamples).astype(np.float64))


@lru_cache(maxsize=4)
def _weights(num_clusters: int, seed: int, resamples: int) -> np.ndarray:
    """How often each cluster is drawn in each resample, (R, C); every row sums to C."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, num_clusters), dtype=np.uint16)
    for row in weights:
        drawn = rng.integers(num_clusters, size=num_clusters)
        row[:] = np.bincount(drawn, minlength=num_clusters)
    weights.flags.writeable = False  # it is shared by all figures over as many clusters
    return weights


def _nanmean(means: np.ndarray) -> np.ndarray:
    """Mean over groups, (R,); NaN where no group occurs."""
    present = ~np.isnan(means)
    with np.errstate(invalid="ignore"):
        return np.where(present, means, 0.0).sum(axis=1) / present.sum(axis=1)


def _interval(drawn: np.ndarray) -> tuple[float, float] | None:
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
