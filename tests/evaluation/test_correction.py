"""Figures corrected for a judge's errors, in worked numbers and by simulation.

If one of these failed, a corrected figure would be wrong, or would look more certain than it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from correction_coverage import (
    CALIBRATIONS,
    JUDGES,
    KINDS,
    LEAST_COVERAGE,
    TRUTHS,
    Kind,
    simulate,
    simulate_cell,
)

from sgflux.evaluation.correction import ErrorRates, corrected, corrected_figures, correction_of
from sgflux.evaluation.judges.judge import JudgeIdentity
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.metrics import Estimate, Row, macro_estimate, mean_estimate

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "correction_coverage.json"


def exactly(share: float) -> Estimate:
    return Estimate(share, (share, share), n=10**9, clusters=10**9)


def measured(right: int, count: int) -> Estimate:
    return mean_estimate([(float(place < right), "all", place) for place in range(count)])


def rows(accepted: int, count: int, predicate: str = "on") -> list[Row]:
    return [(float(place < accepted), predicate, f"{predicate}{place}") for place in range(count)]


def test_a_share_is_corrected_in_worked_numbers() -> None:
    """Of 100 pictures 70 are right: a judge with 0.9 and 0.2 accepts 63 + 6 of them."""
    observed = rows(69, 100)
    found = corrected(observed, {"on": ErrorRates(exactly(0.9), exactly(0.2))})
    assert found.overall.value == pytest.approx(0.7)
    assert found.overall == found.per_group["on"]
    ci95 = macro_estimate(observed).overall.ci95
    assert ci95 is not None
    assert found.overall.ci95 == pytest.approx([(end - 0.2) / 0.7 for end in ci95]), (
        "of a judge whose errors are known exactly, the interval is that of the share, stretched"
    )
    assert (found.overall.n, found.overall.clusters) == (100, 100)


def test_a_perfect_judge_corrects_nothing() -> None:
    observed = rows(42, 200) + rows(12, 12, "in")
    perfect = ErrorRates(exactly(1.0), exactly(0.0))
    raw, found = macro_estimate(observed), corrected(observed, {"on": perfect, "in": perfect})
    for one, other in ((found.overall, raw.overall), (found.per_group["in"], raw.per_group["in"])):
        assert one.value == pytest.approx(other.value)
        assert one.ci95 == pytest.approx(other.ci95)


def test_the_mean_over_predicates_is_that_of_the_corrected_shares() -> None:
    observed = rows(69, 100) + rows(8, 20, "in")
    errors = {
        "on": ErrorRates(exactly(0.9), exactly(0.2)),
        "in": ErrorRates(exactly(0.7), exactly(0.1)),
    }
    found = corrected(observed, errors)
    assert found.per_group["in"].value == pytest.approx((0.4 - 0.1) / 0.6)
    assert found.overall.value == pytest.approx((0.7 + 0.5) / 2)


def test_what_is_not_known_of_the_judge_widens_the_interval() -> None:
    """On the side where it may lie: of a judge that is right about 20 of 20 as well."""
    widths = []
    for count in (10_000, 200, 20):
        rates = ErrorRates(measured(count * 9 // 10, count), measured(count // 10, count))
        low, high = corrected(rows(280, 400), {"on": rates}).overall.ci95 or (0, 0)
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]
    flawless = ErrorRates(measured(20, 20), measured(0, 20))
    low, high = corrected(rows(50, 100), {"on": flawless}).overall.ci95 or (0, 0)
    raw = macro_estimate(rows(50, 100)).overall.ci95 or (0, 0)
    assert low < raw[0] - 0.005
    assert high > raw[1] + 0.005


def test_intervals_hold_in_every_cell_that_was_simulated() -> None:
    committed = json.loads(RESULTS.read_text())
    assert committed["replicates"] >= 400
    assert len(committed["cells"]) == len(KINDS) * len(JUDGES) * len(CALIBRATIONS) * len(TRUTHS)
    for cell in committed["cells"]:
        assert cell["coverage"] >= LEAST_COVERAGE, cell
        # With a few statements some judges look useful by chance: their figures stay less certain.
        assert abs(cell["bias"]) <= max(0.02, 0.4 * cell["width"]), cell


def test_a_part_of_the_simulation_finds_the_same() -> None:
    known = {
        (cell["kind"], tuple(cell["judge"]), cell["calibration"], cell["truth"]): cell
        for cell in json.loads(RESULTS.read_text())["cells"]
    }
    for cell in simulate(replicates=60, kinds=KINDS[:2], calibrations=(80,), truths=(0.75, 1.0)):
        before = known[cell.kind, cell.judge, cell.calibration, cell.truth]
        assert (cell.coverage or 0) >= 0.85, "within chance of 95 % in 60 draws"
        assert cell.width == pytest.approx(before["width"], rel=0.15)
        assert cell.raw_bias == pytest.approx(before["raw_bias"], abs=0.03)


def test_an_interval_without_the_calibrations_error_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulation can fail: error rates of 20 statements are not known exactly."""

    def too_sure(observed: list[Row], errors: dict[str, ErrorRates]) -> Any:
        known = {
            name: ErrorRates(exactly(own.sensitivity.value), exactly(own.false_positives.value))
            for name, own in errors.items()
        }
        return corrected(observed, known)

    monkeypatch.setattr("correction_coverage.corrected", too_sure)
    many = Kind("1 predicate of 400", 1, 400)
    cell = simulate_cell(many, JUDGES[1], 20, 0.95, replicates=100)
    assert (cell.coverage or 0) < 0.9


# --- by which rates -----------------------------------------------------------------------------


class Named:
    """A judge that covers some predicates and is never asked here."""

    def __init__(self, name: str, *predicates: str) -> None:
        self.identity = JudgeIdentity(name, sha256=name)
        self.predicates = predicates

    def covers(self, predicate: str) -> bool:
        return predicate in self.predicates


def entry(**figures: tuple[int, int]) -> dict[str, Any]:
    """Figures of one predicate, given as (accepted, of so many)."""
    found = {name: measured(*pair) for name, pair in figures.items()}
    return {
        **{name: own.value for name, own in found.items()},
        "ci95": {name: list(own.ci95 or ()) for name, own in found.items()},
        "counts": {name: own.n for name, own in found.items()},
    }


CALIBRATION = {
    "judge": {"name": "geometry", "sha256": "geometry"},
    "human": {
        "per_predicate": {
            "on": entry(confirmed=(45, 50), swapped_accepted=(1, 50), false_accepted=(10, 50)),
            "near": entry(confirmed=(30, 40), false_accepted=(25, 40)),
        }
    },
    "geometric": {
        "per_predicate": {
            "on": entry(confirmed=(50, 50), swapped_accepted=(0, 50)),
            "above": entry(confirmed=(40, 50), swapped_accepted=(2, 50)),
            "touching": entry(confirmed=(40, 50)),
        }
    },
}


def test_rates_are_those_of_false_statements_about_the_pictures_own_objects() -> None:
    judge: Any = Named("geometry", "on", "near", "above", "touching", "in")
    found = correction_of(CALIBRATION, ["on", "near", "above", "touching", "in", "riding"], judge)
    assert list(found["rates"]) == ["above", "on"]
    on, above = found["rates"]["on"], found["rates"]["above"]
    assert (on["source"], on["sensitivity"]["value"]) == ("human", 0.9)
    assert (on["false_positives"]["of"], on["false_positives"]["value"]) == ("false_accepted", 0.2)
    assert (above["source"], above["false_positives"]["of"]) == ("geometric", "swapped_accepted")
    assert json.loads(json.dumps(found)) == found
    assert ErrorRates.from_json(on).to_json() == on
    why = found["impossible"]
    assert list(why) == ["in", "near", "touching"], "nobody judges riding"
    assert "no true statement" in why["in"]
    assert "accepts 75 % of true statements (n = 40) and 62 % of false ones (n = 40)" in why["near"]
    assert "no false statements" in why["touching"]


def test_what_another_judge_decides_is_not_corrected() -> None:
    """By the order of the router: of *on*, which both cover, the first one is asked."""
    own, other = Named("geometry", "on", "above"), Named("vqa", "on", "riding")
    both: Any = Router([own, other])  # type: ignore[list-item]
    assert list(correction_of(CALIBRATION, ["on", "riding"], both)["rates"]) == ["on"]
    turned: Any = Router([other, own])  # type: ignore[list-item]
    found = correction_of(CALIBRATION, ["on", "above", "riding"], turned)
    assert list(found["rates"]) == ["above"]
    assert set(found["impossible"]) == {"on", "riding"}
    assert "was not calibrated" in found["impossible"]["on"]


def test_what_is_not_found_is_not_corrected_but_bounds_the_share() -> None:
    """On: 40 of 50 decided, 33 accepted. In: 5 of 10 decided. Riding: without error rates."""
    rates = {
        name: ErrorRates(exactly(s), exactly(f)).to_json()
        for name, s, f in (("on", 0.9, 0.2), ("in", 1.0, 0.0))
    }
    said = [(row, True) for row in rows(33, 40)] + [(row, False) for row in rows(0, 10)]
    said += [(row, place < 5) for place, row in enumerate(rows(5, 10, "in"))]
    said += [(row, True) for row in rows(9, 10, "riding")]
    found = corrected_figures(said, {"rates": rates, "impossible": {}})
    assert found is not None
    on = (33 / 40 - 0.2) / 0.7
    assert found["per_predicate"]["on"]["value"] == pytest.approx(on)
    assert found["macro"] == pytest.approx((on + 1) / 2)
    assert (found["n"], found["predicates"]) == (45, 2)
    assert found["raw"]["macro"] == pytest.approx((33 / 40 + 1) / 2)
    assert found["decided"]["value"] == pytest.approx((0.8 + 0.5) / 2)
    least = (0.8 * on + 0.5) / 2
    assert found["of_all"] == pytest.approx([least, least + 0.35])
    assert corrected_figures(said, {"rates": {}, "impossible": {}}) is None
