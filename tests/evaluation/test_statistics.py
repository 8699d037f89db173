"""Paired differences, tests and power.

If one of these failed, a difference would be called real, or exact, that is not.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sgflux.evaluation.metrics import Estimate, Row, difference_estimate
from sgflux.evaluation.statistics import (
    bootstrap_interval,
    clusters_needed,
    compare,
    compare_all,
    holm,
    sign_test,
    smallest_detectable_difference,
)
from sgflux.intervals import Layout


def pairs(
    rng: np.random.Generator, *, clusters: int, one: float, two: float, seeds: int = 1
) -> tuple[list[Row], list[Row]]:
    """Two arms of independent images, whose noises all turn out as the image's first one."""
    first: list[Row] = []
    second: list[Row] = []
    for number in range(clusters):
        right = rng.random(2) < (one, two)
        for _ in range(seeds):
            first.append((float(right[0]), "on", number))
            second.append((float(right[1]), "on", number))
    return first, second


def test_a_comparison_in_worked_numbers() -> None:
    """Image 0 is right in both arms, 1 to 5 in the first alone, 6 in the second alone, 7 in none.

    (6 - 2) / 8 = 0.5; of six discordant images five are better: p = 2 (6 + 1) / 2^6.
    """
    one = [1, 1, 1, 1, 1, 1, 0, 0]
    two = [1, 0, 0, 0, 0, 0, 1, 0]
    first = [(float(v), "on", image) for image, v in enumerate(one)]
    second = [(float(v), "on", image) for image, v in enumerate(two)]
    found = compare(first, second)
    assert found.difference.value == 0.5
    assert (found.difference.n, found.difference.clusters) == (8, 8)
    assert (found.better, found.worse) == (5, 1)
    assert found.p_sign == pytest.approx(14 / 64)
    assert found.difference.ci95 == difference_estimate(first, second).ci95
    turned = compare(second, first)
    assert turned.difference.value == -0.5
    assert (turned.better, turned.worse, turned.p_sign) == (1, 5, found.p_sign)
    shown = found.to_json()
    assert (shown["difference"], shown["n"], shown["n_discordant"]) == (0.5, 8, 6)


def test_pairs_that_are_none_are_refused() -> None:
    """Two arms whose rows are of other items have no paired difference."""
    row: Row = (1.0, "on", "a.png")
    for first, second in (([], []), ([row], []), ([row], [(1.0, "on", "b.png")])):
        with pytest.raises(ValueError, match="same observations"):
            compare(first, second)


def test_the_same_arm_twice_differs_in_nothing() -> None:
    same: list[Row] = [(1.0, "on", 0), (0.0, "on", 1), (1.0, "in", 2)]
    found = compare(same, same)
    assert (found.difference.value, found.p_sign, found.better, found.worse) == (0, 1, 0, 0)


def test_more_noises_of_an_image_are_no_more_evidence() -> None:
    """Ten copies of each image have to say exactly what one says."""
    one, ten = (
        compare(*pairs(np.random.default_rng(5), clusters=40, one=0.8, two=0.5, seeds=seeds))
        for seeds in (1, 10)
    )
    assert one.difference.value == pytest.approx(ten.difference.value)
    assert (one.p_sign, one.better, one.worse) == (ten.p_sign, ten.better, ten.worse)
    assert one.bootstrap95 == pytest.approx(ten.bootstrap95)
    assert ten.difference.ci95 is not None
    assert one.difference.ci95 is not None
    widths = [high - low for low, high in (one.difference.ci95, ten.difference.ci95)]
    assert widths[1] > 0.8 * widths[0]


def test_the_bootstrap_is_that_of_scipy() -> None:
    """Of equal groups and one observation an image: scipy's own over the images' differences."""
    rng = np.random.default_rng(1)
    values = rng.choice([-1.0, 0.0, 1.0], size=60, p=[0.1, 0.5, 0.4])
    ours = bootstrap_interval(values, Layout(["on"] * 60, range(60)), resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=2
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.018)
    assert bootstrap_interval(np.ones(3), Layout(["on"] * 3, ["a"] * 3)) is None


def test_the_sign_test_counts_all_outcomes() -> None:
    """The p-value by counting: outcomes of six fair coins that are as unlikely as the one seen."""
    for better in range(7):
        likelihood = math.comb(6, better)
        flips = [sum(coins) for coins in itertools.product((0, 1), repeat=6)]
        as_rare = sum(math.comb(6, heads) <= likelihood for heads in flips)
        assert sign_test(better, 6 - better) == pytest.approx(as_rare / 64)
    assert sign_test(0, 0) == 1.0


def test_holm_in_worked_numbers() -> None:
    """Of 0.01, 0.04, 0.03, 0.005: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 not below it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = rng.random(6) ** 3
        rejected = set()
        for step, place in enumerate(np.argsort(p)):
            if p[place] > 0.05 / (6 - step):
                break
            rejected.add(int(place))
        assert {place for place, adjusted in enumerate(holm(list(p))) if adjusted <= 0.05} == (
            rejected
        )


def test_p_values_of_several_arms_are_adjusted_together() -> None:
    rng = np.random.default_rng(4)
    several = {name: pairs(rng, clusters=30, one=0.9, two=0.4) for name in "abc"}
    found = compare_all({**several, "nothing": ([], [])})
    assert list(found) == ["a", "b", "c"]
    assert [one["p_holm"] for one in found.values()] == holm(
        [one["p_sign"] for one in found.values()]
    )
    assert all(one["p_holm"] >= one["p_sign"] for one in found.values())


def test_power_in_worked_numbers() -> None:
    """A standard error of 0.05: 2.80158 x 0.05 = 0.14008, and for half of it 4 times as many."""
    found = Estimate(0.1, (0.1 - 1.959964 * 0.05, 0.1 + 1.959964 * 0.05), n=100, clusters=100)
    smallest = smallest_detectable_difference(found)
    assert smallest == pytest.approx(0.140079, abs=1e-5)
    assert clusters_needed(found, smallest) == 100
    assert clusters_needed(found, smallest / 2) == 400
    assert clusters_needed(found, 0.2) == math.ceil(100 * (0.140079 / 0.2) ** 2)
    stricter = smallest_detectable_difference(found, power=0.9)
    assert stricter == pytest.approx((1.959964 + 1.281552) * 0.05, abs=1e-5)
    assert smallest_detectable_difference(Estimate(0.0, (-1.0, 1.0), n=2, clusters=2)) is None
    assert clusters_needed(Estimate(0.0, None, n=1, clusters=1), 0.1) is None
    with pytest.raises(ValueError, match="above 0"):
        clusters_needed(found, 0.0)


def test_the_smallest_detectable_difference_is_detected_in_four_of_five() -> None:
    """120 images, 50 % against 50 % plus that difference: the interval leaves out 0 in about 80 %.

    The house's exact intervals are a little wide, so that a little more or less is expected.
    """
    rng = np.random.default_rng(6)
    smallest = np.mean(
        [
            smallest_detectable_difference(
                compare(*pairs(rng, clusters=120, one=0.59, two=0.41)).difference
            )
            for _ in range(20)
        ]
    )
    one, two = 0.5 + smallest / 2, 0.5 - smallest / 2
    detected = []
    for _ in range(300):
        ci95 = difference_estimate(*pairs(rng, clusters=120, one=one, two=two)).ci95
        assert ci95 is not None
        detected.append(ci95[0] > 0 or ci95[1] < 0)
    assert 0.72 <= np.mean(detected) <= 0.88


def test_intervals_of_paired_differences_hold_the_truth() -> None:
    rng = np.random.default_rng(7)
    held = {"house": 0, "bootstrap": 0}
    for _ in range(300):
        found = compare(*pairs(rng, clusters=60, one=0.8, two=0.6, seeds=2))
        for name, ci95 in (("house", found.difference.ci95), ("bootstrap", found.bootstrap95)):
            assert ci95 is not None
            held[name] += ci95[0] <= 0.2 <= ci95[1]
    assert held["house"] / 300 >= 0.93
    assert held["bootstrap"] / 300 >= 0.90


def test_the_sign_test_is_right_about_arms_that_are_alike() -> None:
    """Of arms without any difference at most 5 % are called different."""
    rng = np.random.default_rng(8)
    alarms = [
        compare(*pairs(rng, clusters=50, one=0.7, two=0.7, seeds=3)).p_sign <= 0.05
        for _ in range(300)
    ]
    assert np.mean(alarms) <= 0.07
