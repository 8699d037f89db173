"""Intervals of shares: against exact values, at the borders, with clusters, and turned around.

If one of these failed, 95 % intervals would cover less than 95 %, or leave the range of a share.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from sgflux.intervals import (
    Layout,
    difference_interval,
    exact_interval,
    mean_interval,
    share_interval,
    student_t95,
)


def single(count: int) -> Layout:
    return Layout(["all"] * count, range(count))


def test_quantiles_of_student_t() -> None:
    known = {
        1: 12.70620,
        2: 4.30265,
        3: 3.18245,
        5: 2.57058,
        10: 2.22814,
        47: 2.01174,
        500: 1.96472,
    }
    for freedom, value in known.items():
        assert student_t95(freedom) == pytest.approx(value, abs=2e-5)
    with pytest.raises(ValueError, match="at least 1"):
        student_t95(0)


@pytest.mark.parametrize(("hits", "count"), [(0, 3), (1, 20), (24, 48), (47, 48), (950, 1000)])
def test_the_exact_interval_leaves_two_and_a_half_per_cent_on_either_side(
    hits: int, count: int
) -> None:
    def at_least(share: float, least: int) -> float:
        return sum(
            math.comb(count, k) * share**k * (1 - share) ** (count - k)
            for k in range(least, count + 1)
        )

    low, high = exact_interval(hits / count, count)
    if hits:
        assert at_least(float(low), hits) == pytest.approx(0.025, rel=2e-3)
    else:
        assert low == 0.0
    assert 1 - at_least(float(high), hits + 1) == pytest.approx(0.025, rel=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_what_always_comes_out_alike_has_a_width(value: float) -> None:
    """0 of 48, 48 of 48, and an adapter that ignores its graph (every comparison is a tie)."""
    found = share_interval(np.full(48, value), single(48))
    assert found.value[0] == value, "to the last bit"
    low, high = float(found.low[0]), float(found.high[0])
    assert low <= value <= high
    assert high - low == pytest.approx(0.0740 if value != 0.5 else 0.0574, abs=2e-3)


def test_independent_answers_have_the_exact_interval() -> None:
    values = (np.arange(480) < 456).astype(float)
    found = share_interval(values, single(480))
    low, high = exact_interval(0.95, 480)
    assert (found.low[0], found.high[0]) == pytest.approx((float(low), float(high)), abs=1e-3)


def test_low_shares_are_high_ones_turned_around() -> None:
    rng = np.random.default_rng(3)
    layout = Layout((np.arange(96) % 7).tolist(), (np.arange(96) // 3).tolist())
    values = rng.choice([0.0, 0.5, 1.0], p=[0.05, 0.1, 0.85], size=(50, 96))
    high, low = share_interval(values, layout), share_interval(1 - values, layout)
    assert low.value == pytest.approx(1 - high.value)
    assert low.low == pytest.approx(1 - high.high, abs=1e-9)
    assert low.high == pytest.approx(1 - high.low, abs=1e-9)


def test_pictures_whose_statements_agree_count_once() -> None:
    agree = np.repeat((np.arange(48) % 4 > 0).astype(float), 2)
    pairs = Layout(["all"] * 96, np.repeat(np.arange(48), 2).tolist())
    together, apart = share_interval(agree, pairs), share_interval(agree, single(96))
    once = share_interval(agree[::2], single(48))
    width = [float(one.high[0] - one.low[0]) for one in (together, apart, once)]
    assert width[0] == pytest.approx(width[2], rel=0.05)
    assert width[0] > 1.3 * width[1]


def test_a_macro_share_weighs_its_groups_alike() -> None:
    # 30 of 30 on and 0 of 2 riding: 50 %, known no better than the two pictures tell.
    layout = Layout(["on"] * 30 + ["riding"] * 2, range(32))
    found = share_interval(np.array([1.0] * 30 + [0.0] * 2), layout)
    assert found.value[0] == pytest.approx(0.5)
    assert found.high[0] - found.low[0] > 0.5


def test_the_effective_number_of_four_answers_by_hand() -> None:
    # Two of four right: V = 4 (1/2 / 4)^2 4/3 = 1/12, a design effect of 4/3 seen in 4 clusters;
    # with the assumed one, 1, counting for 2 clusters, 11/9. So 4 / (11/9), less for few clusters.
    (found,) = single(4).effective_count(np.array([[1.0, 1.0, 0.0, 0.0]]))
    assert found == pytest.approx(36 / 11 * (2.776445 / 3.182446) ** 2, rel=1e-5)


def test_one_shared_failure_says_little_of_the_correlation_of_two_arms() -> None:
    values = (np.arange(48) > 0).astype(float)
    own = share_interval(values, single(48))
    found = difference_interval(values, single(48), values, single(48))
    down, up = float(own.value[0] - own.low[0]), float(own.high[0] - own.value[0])
    # Both arms fail in one picture, and there alone: r = 1, seen in (47^2 + 47)^2 / (47^4 + 47)
    # clusters, and shrunk by two clusters of no correlation.
    seen = (47**2 + 47) ** 2 / (47**4 + 47)
    r = seen / (seen + 2)
    half = math.sqrt(down**2 - 2 * r * down * up + up**2)
    assert (found.low[0], found.high[0]) == pytest.approx((-half, half), rel=1e-6)


def test_differences_of_what_is_paired_are_narrower() -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(96) < 0.8).astype(float)
    second = np.where(rng.random(96) < 0.9, first, 1 - first)
    same, other = single(96), Layout(["all"] * 96, range(100, 196))
    paired = difference_interval(first, same, second, same)
    apart = difference_interval(first, same, second, other)
    assert paired.value == apart.value
    assert paired.high[0] - paired.low[0] < 0.7 * (apart.high[0] - apart.low[0])
    turned = difference_interval(second, same, first, same)
    assert turned.low == pytest.approx(-paired.high)


def test_a_difference_of_all_from_none_stays_within_its_bounds() -> None:
    found = difference_interval(np.ones(48), single(48), np.zeros(48), single(48))
    assert (found.value[0], found.high[0]) == (1.0, 1.0)
    assert 0.85 < found.low[0] < 0.95
    alike = difference_interval(np.ones(48), single(48), np.ones(48), single(48))
    assert alike.low[0] < -0.05
    assert alike.high[0] > 0.05


def test_numbers_without_bounds_have_student_t() -> None:
    values = np.array([2.0, 4.0, 9.0])
    found = mean_interval(values, single(3))
    half = 4.30265 * math.sqrt(13 / 3)  # variance 13, three of them
    assert found.value[0] == 5.0
    assert (found.low[0], found.high[0]) == pytest.approx((5 - half, 5 + half), abs=1e-3)
    assert mean_interval(values[:1], single(1)).high[0] == math.inf


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 1.1], "from 0 to 1"),
        ([-0.1, 0.0], "from 0 to 1"),
        ([1.0], "1 values for 2"),
        ([math.nan, 1.0], "from 0 to 1"),
    ],
)
def test_what_is_no_share_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share_interval(np.array(values), single(2))


def test_an_evaluation_has_no_time_to_wait() -> None:
    """Some 2,000 intervals: every arm by predicate. The bootstrap before took 20 seconds."""
    values, layout = np.ones(20), single(20)
    values[:3] = 0
    share_interval(values, layout)
    started = time.process_time()
    for _ in range(500):
        share_interval(values, Layout(["all"] * 20, range(20)))
    assert time.process_time() - started < 2.5
