"""Simulate how often the intervals of figures corrected for a judge's errors hold.

    python benchmarks/correction_coverage.py            (about minutes on one core)
    python benchmarks/correction_coverage.py --quick    (seconds; writes nothing)

The script draws evaluations whose truth is known. A judge with known error rates is calibrated on
drawn statements of each predicate, it then judges other drawn statements, and
``sgflux.evaluation.correction`` corrects what it accepts. A cell is a layout of the judged
statements, a judge, a size of the calibration and a truth. It counts the corrections whose interval
holds the truth; predicates that cannot be corrected, since the calibration does not tell the two
error rates apart, are left out of a correction and counted.

The script writes ``benchmarks/results/correction_coverage.json`` and ``correction_coverage.md``.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from result_files import write_json

from sgflux.evaluation.correction import ErrorRates, corrected
from sgflux.evaluation.metrics import Estimate, mean_estimate
from sgflux.files.writing import replacing

REPLICATES = 400
LEAST_COVERAGE = 0.93
TRUTHS = (0.25, 0.75, 0.95, 1.0)
CALIBRATIONS = (20, 80)
"""Number of true statements, and of false ones, of each predicate."""
JUDGES = ((0.9, 0.1), (0.8, 0.05), (0.75, 0.4))
"""Sensitivity and false positives."""


@dataclass(frozen=True)
class Kind:
    """A layout of judged statements.

    Attributes:
        name: Name in the table.
        predicates: Number of predicates.
        statements: Number of statements of each.
        correlation: Correlation of the truths of the two statements of one picture; None: every
            picture has one statement.
    """

    name: str
    predicates: int
    statements: int
    correlation: float | None = None


KINDS = (
    Kind("1 predicate of 48", 1, 48),
    Kind("6 predicates of 20", 6, 20),
    Kind("6 predicates of 20, 2 statements, correlation 0.8", 6, 20, 0.8),
    Kind("24 predicates of 4", 24, 4),
)


@dataclass(frozen=True)
class Cell:
    """Result for one layout, judge, calibration and truth.

    Attributes:
        kind: Name of the layout.
        judge: Sensitivity and false positives of the judge.
        calibration: Number of true and of false statements of each predicate in its calibration.
        truth: Mean share of true statements.
        coverage: Share of the intervals that hold the truth; None if nothing could be corrected.
        width: Mean width of the intervals.
        bias: Mean of corrected shares less the truth.
        raw_bias: The same of the shares that the judge accepts.
        impossible: Share of the predicates that could not be corrected.
    """

    kind: str
    judge: tuple[float, float]
    calibration: int
    truth: float
    coverage: float | None
    width: float
    bias: float
    raw_bias: float
    impossible: float


def truths_of(kind: Kind, truth: float) -> np.ndarray:
    """Shares of true statements of the predicates, with the mean ``truth``; unequal if possible."""
    reach = min(0.2, truth, 1 - truth) if kind.predicates > 1 else 0.0
    return truth + reach * np.linspace(-1, 1, kind.predicates)


@lru_cache
def _rate(accepted: int, count: int) -> Estimate:
    return mean_estimate([(float(place < accepted), "all", place) for place in range(count)])


def simulate_cell(
    kind: Kind, judge: tuple[float, float], calibration: int, truth: float, *, replicates: int
) -> Cell:
    """Calibrate, judge and correct ``replicates`` times."""
    seed = zlib.crc32(f"{kind.name}/{judge}/{calibration}/{truth}".encode())
    rng = np.random.default_rng(seed)
    shares = truths_of(kind, truth)
    names = [f"predicate {number}" for number in range(kind.predicates)]
    group = np.arange(kind.predicates * kind.statements) % kind.predicates
    picture = np.arange(len(group)) // (1 if kind.correlation is None else 2)
    held, widths, errors, raw, impossible = [], [], [], [], 0
    for _ in range(replicates):
        rates = {
            name: ErrorRates(
                *(_rate(int(rng.binomial(calibration, p)), calibration) for p in judge)
            )
            for name in names
        }
        usable = [place for place, name in enumerate(names) if rates[name].least_gain > 0]
        impossible += len(names) - len(usable)
        if not usable:
            continue
        own, shared = rng.random(len(group)), rng.random(len(group))[picture]
        copied = rng.random(len(group)) < np.sqrt(kind.correlation or 0.0)
        is_true = np.where(copied, shared, own) < shares[group]
        accepted = rng.random(len(group)) < np.where(is_true, *judge)
        rows = [
            (float(value), names[place], int(image))
            for value, place, image in zip(accepted, group, picture, strict=True)
            if place in usable
        ]
        found = corrected(rows, rates).overall
        assert found.value is not None
        assert found.ci95 is not None
        known = float(shares[usable].mean())
        held.append(found.ci95[0] - 1e-9 <= known <= found.ci95[1] + 1e-9)
        widths.append(found.ci95[1] - found.ci95[0])
        errors.append(found.value - known)
        raw.append(float(np.mean([accepted[group == place].mean() for place in usable])) - known)
    return Cell(
        kind.name,
        judge,
        calibration,
        truth,
        float(np.mean(held)) if held else None,
        *(float(np.mean(part)) if part else 0.0 for part in (widths, errors, raw)),
        impossible / (replicates * len(names)),
    )


def simulate(
    *,
    replicates: int,
    kinds: Sequence[Kind] = KINDS,
    calibrations: Sequence[int] = CALIBRATIONS,
    truths: Sequence[float] = TRUTHS,
) -> list[Cell]:
    """Simulate all cells."""
    return [
        simulate_cell(kind, judge, calibration, truth, replicates=replicates)
        for kind in kinds
        for judge in JUDGES
        for calibration in calibrations
        for truth in truths
    ]


def report(cells: Sequence[Cell], *, replicates: int) -> str:
    """Format the table with its explanation as Markdown."""
    least = min(cell.coverage for cell in cells if cell.coverage is not None)
    truths = list(dict.fromkeys(cell.truth for cell in cells))
    lines = [
        "| statements | judge | calibrated on | "
        f"{' | '.join(f'{100 * truth:g} %' for truth in truths)} | not possible |",
        "|---|---|---|" + "---|" * (len(truths) + 1),
    ]
    for kind, judge, size in dict.fromkeys((c.kind, c.judge, c.calibration) for c in cells):
        own = [c for c in cells if (c.kind, c.judge, c.calibration) == (kind, judge, size)]
        shown = " | ".join(
            f"{100 * (cell.coverage or 0):.1f}, {100 * cell.width:.0f}, "
            f"{100 * cell.raw_bias:+.0f} → {100 * cell.bias:+.0f}"
            for cell in own
        )
        accepts = " / ".join(f"{100 * share:g} %" for share in judge)
        missing = np.mean([cell.impossible for cell in own])
        lines.append(f"| {kind} | {accepts} | {size} + {size} | {shown} | {100 * missing:.0f} % |")
    table = "\n".join(lines)
    return f"""# How often intervals of corrected figures hold

By `python benchmarks/correction_coverage.py`, {replicates:,} simulated evaluations a cell. The
judge accepts the first share of true and the second of false statements, and was calibrated on so
many true and so many false statements of each predicate. The other columns are the true share. A
cell holds the share of the intervals that contain the truth, in per cent; their mean width, in
points; and by how many points the judge's own figure and the corrected one are wrong on average.
The last column is the share of the predicates for which no correction was possible. The least
coverage of all cells is {100 * least:.1f} %.

{table}
"""


def main() -> None:
    """Simulate and print; write the results unless in quick mode."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="Run few simulations, and write nothing."
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/correction_coverage"))
    given = parser.parse_args()
    replicates = 20 if given.quick else REPLICATES
    cells = simulate(replicates=replicates)
    text = report(cells, replicates=replicates)
    print(text)
    if given.quick:
        return
    found = {"replicates": replicates, "cells": [asdict(cell) for cell in cells]}
    write_json(given.out.with_suffix(".json"), found)
    with replacing(given.out.with_suffix(".md")) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
