"""The simulation of how often intervals hold: a part of it, and what it found when run whole.

If one of these failed, the stated coverage of the intervals would not be what the simulation
measures.
"""

from __future__ import annotations

import json
from pathlib import Path

import interval_coverage
import numpy as np
import pytest
from interval_coverage import (
    COUNTS,
    DIFFERENCES,
    KINDS,
    LARGEST_WIDTH,
    LEAST_COVERAGE,
    PAIRS,
    TRUTHS,
    Kind,
    as_table,
    difference_cell,
    share_cell,
    simulate,
)

from sgflux.intervals import Interval, Layout

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "coverage.json"


@pytest.fixture(scope="module")
def committed() -> dict:
    return json.loads(RESULTS.read_text())


def test_intervals_hold_in_every_cell_that_was_simulated(committed: dict) -> None:
    shares, differences = committed["shares"], committed["differences"]
    assert committed["replicates"] >= 4000
    asked = {(kind.name, n, truth) for kind in KINDS for n in COUNTS for truth in TRUTHS}
    left_out = asked - {(cell["kind"], cell["n"], cell["truth"]) for cell in shares}
    assert {(kind, truth) for kind, _, truth in left_out} == {
        ("macro, a sixth fail", 0.5),
        ("macro, a sixth fail", 0.75),
    }, "impossible: a sixth of the predicates cannot fail in a quarter of all cases"
    assert {(cell["kind"], cell["n"]) for cell in differences} == {
        (kind.name, n) for kind in DIFFERENCES for n in COUNTS
    }
    for cell in (*shares, *differences):
        assert cell["coverage"] >= LEAST_COVERAGE, cell
    for cell in shares:
        assert cell["relative_width"] is None or cell["relative_width"] <= LARGEST_WIDTH, cell


def test_a_part_of_the_simulation_finds_the_same(committed: dict) -> None:
    kinds = [KINDS[0], KINDS[4], KINDS[14]]
    cells, two = simulate(
        replicates=400, counts=(48,), truths=(0.75, 0.98, 0.99), pairs=PAIRS[3:5], kinds=kinds,
        differences=DIFFERENCES[1:2],
    )  # fmt: skip
    known = {
        (cell["kind"], cell["n"], str(cell["truth"])): cell
        for side in ("shares", "differences")
        for cell in committed[side]
    }
    assert len(cells) == 9
    for cell in (*cells, *two):
        truth = list(cell.truth) if isinstance(cell.truth, tuple) else cell.truth
        before = known[cell.kind, cell.n, str(truth)]
        assert cell.coverage >= 0.92, "within chance of 93 % in 400 draws"
        assert cell.coverage == pytest.approx(before["coverage"], abs=0.045)
        assert cell.width == pytest.approx(before["width"], rel=0.1)
        assert cell.effective == pytest.approx(before["effective"])


def test_an_interval_that_is_too_narrow_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: a normal interval of independent observations does not hold."""

    def normal(values: np.ndarray, layout: Layout) -> Interval:
        share = values @ layout.weights
        half = 1.96 * np.sqrt(share * (1 - share) / layout.count)
        return Interval(share, share - half, share + half)

    monkeypatch.setattr(interval_coverage, "share_interval", normal)
    near_one = share_cell(KINDS[0], 48, 0.98, replicates=400)
    clustered = share_cell(KINDS[4], 96, 0.75, replicates=400)
    assert near_one is not None
    assert clustered is not None
    assert near_one.coverage < 0.75
    assert clustered.coverage < 0.9


def test_effective_numbers_by_hand() -> None:
    pairs = share_cell(KINDS[4], 96, 0.9, replicates=2)
    assert pairs is not None
    assert pairs.effective == pytest.approx(96 / 1.8, rel=1e-3), "pairs at correlation 0.8"
    # A group of 2 at 100 % and one at 80 %: variance (0.16 / 24 / 4), of p (1 - p) = 0.09.
    half = Kind("half", lambda n: (np.arange(n) % 2, np.arange(n)), 0.0, interval_coverage._half)
    cell = share_cell(half, 48, 0.9, replicates=2)
    assert cell is not None
    assert cell.effective == pytest.approx(0.09 / (0.16 / 24 / 4), rel=1e-3)
    unpaired = difference_cell(DIFFERENCES[0], 48, (0.9, 0.75), replicates=2)
    assert unpaired is not None
    assert unpaired.effective == pytest.approx(48, rel=1e-3)


def test_the_table_has_a_column_for_each_truth() -> None:
    cells = [share_cell(KINDS[0], 48, truth, replicates=20) for truth in (0.5, 0.9)]
    head, rule, line = as_table([cell for cell in cells if cell]).splitlines()
    assert head == "| observations | n | 50 % | 90 % |"
    assert line.startswith("| independent | 48 | ")
    assert head.count("|") == rule.count("|") == line.count("|")
