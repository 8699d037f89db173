"""Figures and their intervals, against worked numbers and against what theory says.

If one of these failed, accuracies would be averaged over the wrong units, or intervals would
claim too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sgflux.evaluation.metrics import (
    Row,
    difference_estimate,
    level_estimate,
    macro_estimate,
    mean_estimate,
)


def observations(*rows: Row) -> list[Row]:
    return list(rows)


def test_a_macro_figure_counts_every_group_the_same() -> None:
    # 3 of 4 on, 0 of 1 riding: the plain mean is 3/5, the macro mean (3/4 + 0) / 2.
    data = observations(
        (1, "on", "a"), (1, "on", "b"), (1, "on", "c"), (0, "on", "d"), (0, "riding", "e")
    )
    macro = macro_estimate(data)
    assert macro.overall.value == pytest.approx(0.375)
    assert macro.overall.n == 5
    assert macro.overall.clusters == 5
    assert macro.per_group["on"].value == 0.75
    assert macro.per_group["on"].n == 4
    assert macro.per_group["riding"].value == 0.0
    assert macro.per_group["riding"].ci95 == pytest.approx((0.0, 0.975), abs=1e-4)
    assert macro.to_json()["predicates"] == 2
    assert mean_estimate(data).value == pytest.approx(0.6)


def test_the_interval_is_the_binomial_one_where_observations_are_independent() -> None:
    n, share = 400, 0.3
    data = observations(*[(float(i < share * n), "all", str(i)) for i in range(n)])
    estimate = mean_estimate(data)
    assert estimate.ci95 is not None
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    assert estimate.ci95[0] == pytest.approx(share - half, abs=0.008)
    assert estimate.ci95[1] == pytest.approx(share + half, abs=0.008)


def test_seeds_of_one_image_do_not_narrow_the_interval() -> None:
    # The same 50 images, each drawn with 20 seeds that all agree: no more is known than before.
    values = [float(i % 2) for i in range(50)]
    once = observations(*[(value, "all", str(i)) for i, value in enumerate(values)])
    often = observations(
        *[(value, "all", str(i)) for i, value in enumerate(values) for _ in range(20)]
    )
    few, many = mean_estimate(once), mean_estimate(often)
    assert few.ci95 is not None
    assert many.ci95 is not None
    assert many.ci95[1] - many.ci95[0] == pytest.approx(few.ci95[1] - few.ci95[0], rel=0.05)
    assert (few.n, many.n, many.clusters) == (50, 1000, 50)


def test_intervals_near_100_per_cent_cover_the_truth_as_often_as_they_say() -> None:
    """48 pictures of 24 predicates, truth 98 %: a bootstrap's intervals hold in 61 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        rows = [(float(rng.random() < 0.98), str(i % 24), str(i)) for i in range(48)]
        low, high = macro_estimate(observations(*rows)).overall.ci95 or (1, 0)
        covered += low <= 0.98 <= high
    assert covered >= 93


def test_differences_are_paired_by_image() -> None:
    # The second arm is the first less 0.1 on every image: however much the images differ, the
    # difference is nearly certain. Unpaired, its interval would be wide.
    values = [(i % 10) / 10 for i in range(40)]
    first = observations(*[(value + 0.1, "on", str(i)) for i, value in enumerate(values)])
    second = observations(*[(value, "on", str(i)) for i, value in enumerate(values)])
    estimate = difference_estimate(first, second)
    assert estimate.value == pytest.approx(0.1)
    assert estimate.ci95 == pytest.approx((0.06, 0.14), abs=0.005)
    others = observations(*[(value, "on", f"x{i}") for i, value in enumerate(values)])
    unpaired = difference_estimate(first, others)
    assert unpaired.ci95 is not None
    assert unpaired.ci95[0] < -0.02


def test_levels_are_numbers_without_bounds() -> None:
    rows = [(value, "all", str(i // 2)) for i, value in enumerate([-3.0, -1.0, 4.0, 8.0])]
    estimate = level_estimate(observations(*rows))
    half = 12.7062 * 4.0  # two images, of means -2 and 6; one degree of freedom
    assert estimate.value == 2.0
    assert estimate.ci95 == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert level_estimate(observations(rows[0])).ci95 is None, "one image tells no spread"
    assert level_estimate(observations()).value is None
    with pytest.raises(ValueError, match="from 0 to 1"):
        mean_estimate(observations(*rows))


def test_differences_compare_the_groups_that_both_sides_have() -> None:
    first = observations((1, "on", "a"), (1, "riding", "b"))
    second = observations((0, "on", "c"), (1, "holding", "d"))
    estimate = difference_estimate(first, second)
    assert estimate.value == 1.0, "riding and holding are each known on one side only"
    assert estimate.n == 2
    assert difference_estimate(first, observations((0, "in", "c"))).value is None


def test_nothing_observed_is_no_figure() -> None:
    nothing = macro_estimate(observations())
    assert nothing.to_json() == {
        "macro": None,
        "ci95": None,
        "n": 0,
        "clusters": 0,
        "predicates": 0,
        "per_predicate": {},
    }
    assert mean_estimate(observations()).value is None


@pytest.mark.parametrize("estimate", [mean_estimate, macro_estimate, level_estimate])
def test_a_value_that_is_not_finite_is_refused(estimate: Callable[[list[Row]], object]) -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate(observations((1.0, "on", "a"), (math.nan, "on", "b")))
