"""Simulate how often the 95 % intervals of an evaluation hold, and how wide they are.

    python benchmarks/interval_coverage.py            (about ten minutes on one core)
    python benchmarks/interval_coverage.py --quick    (seconds; writes nothing)

The script draws evaluations whose truth is known, and checks whether the interval of
``sgflux.intervals`` contains the truth. A cell is a layout of observations, their number, and a
truth. Two observations of one picture have a known correlation: they share the random number that
decides whether they are right. Predicates may differ in difficulty. Low shares need no cells of
their own, since the interval of 1 - y mirrors that of y exactly, as a test shows.

A width is the mean width divided by that of the exact interval (Clopper-Pearson) of n* independent
observations at the same truth. The effective number n* is truth (1 - truth) / variance of the
layout. The width of a difference is divided by the width that the method of variance recovery gives
for the two exact intervals at n* and at the true correlation.

The script writes ``benchmarks/results/coverage.json`` and ``coverage.md``.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from result_files import write_json

from sgflux.files.writing import replacing
from sgflux.intervals import Layout, difference_interval, exact_interval, share_interval

COUNTS = (48, 96, 480)
TRUTHS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
PAIRS = (
    (0.5, 0.5),
    (0.9, 0.75),
    (0.98, 0.02),
    (0.98, 0.9),
    (0.98, 0.98),
    (0.99, 0.95),
    (0.99, 0.99),
)
REPLICATES = 4000
LEAST_COVERAGE, LARGEST_WIDTH = 0.93, 1.4
PREDICATES = 24
_GRID = (np.arange(4000) + 0.5) / 4000


@dataclass(frozen=True)
class Kind:
    """A layout of observations.

    Attributes:
        name: Name in the table.
        place: Function from the number of observations to the predicate and picture of each.
        correlation: Correlation of two observations of one picture.
        difficulty: Function from the number of predicates to the failures of each, as multiples of
            the mean.
        ties: Whether failures are ties, worth 1/2, as often as possible.
    """

    name: str
    place: Callable[[int], tuple[np.ndarray, np.ndarray]]
    correlation: float = 0.0
    difficulty: Callable[[int], np.ndarray] = np.ones
    ties: bool = False


def _single(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(n, int), np.arange(n)


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(n, int), np.arange(n) // 2


def _unequal(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(n, int), np.repeat(np.arange(n), np.resize([1, 1, 2, 4], n))[:n]


def _macro(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n) % PREDICATES, np.arange(n)


def _macro_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay out two statements of different predicates in each picture."""
    return np.arange(n) % PREDICATES, np.arange(n) // 2


def _macro_noises(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay out two noises of each statement."""
    group = np.repeat(np.arange(n // 2), 2)
    return group % PREDICATES, group


def _macro_mixed(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay out one statement in half of the pictures, two in the others, unevenly by predicate."""
    further = np.random.default_rng(n).integers(PREDICATES, size=n - PREDICATES)
    pictures = np.repeat(np.arange(n), np.resize([1, 2], n))[:n]
    return np.concatenate([np.arange(PREDICATES), further]), pictures


def _even(groups: int) -> np.ndarray:
    """Difficulties that grow evenly from predicates that never fail to twice the mean."""
    return np.linspace(0, 2, groups)


def _half(groups: int) -> np.ndarray:
    """Difficulties where every other predicate never fails."""
    return np.resize([0.0, 2.0], groups)


def _few(groups: int) -> np.ndarray:
    """Difficulties where a sixth of the predicates has all failures; the truth is at least 5/6."""
    return np.where(np.arange(groups) < groups // 6, 6.0, 0.0)


KINDS = (
    Kind("independent", _single),
    Kind("independent, ties", _single, ties=True),
    Kind("pairs, correlation 0", _pairs),
    Kind("pairs, correlation 0.3", _pairs, 0.3),
    Kind("pairs, correlation 0.8", _pairs, 0.8),
    Kind("pairs, correlation 0.8, ties", _pairs, 0.8, ties=True),
    Kind("1 to 4 a picture, correlation 0.3", _unequal, 0.3),
    Kind("1 to 4 a picture, correlation 0.8", _unequal, 0.8),
    Kind("macro", _macro),
    Kind("macro, unequally hard", _macro, difficulty=_even),
    Kind("macro, half never fail", _macro, difficulty=_half),
    Kind("macro, a sixth fail", _macro, difficulty=_few),
    Kind("macro, 2 statements, correlation 0.8, unequally hard", _macro_pairs, 0.8, _even),
    Kind("macro, 2 noises, correlation 0.8, unequally hard", _macro_noises, 0.8, _even),
    Kind("macro, 1 or 2 statements, correlation 0.8, unequally hard", _macro_mixed, 0.8, _even),
    Kind("macro, 1 or 2 statements, ties", _macro_mixed, 0.8, _even, ties=True),
)

DIFFERENCES = (
    Kind("independent", _single, 0.0),
    Kind("same pictures, correlation 0.5", _single, 0.5),
    Kind("same pictures, correlation 0.9", _single, 0.9),
    Kind("pairs, correlation 0.5", _pairs, 0.5),
    Kind("macro, 1 or 2 statements, correlation 0.5, unequally hard", _macro_mixed, 0.5, _even),
)
"""Here the correlation also holds between two arms' observations of one picture; but for the first,
both arms have the same pictures."""


@dataclass(frozen=True)
class Cell:
    """Result for one layout, number of observations and truth.

    Attributes:
        kind: Name of the layout.
        n: Number of observations of one arm.
        truth: True share, or the true shares of both arms.
        effective: Effective number n* of the layout, of the first arm.
        coverage: Share of the intervals that contain the truth.
        width: Mean width of the intervals.
        exact_width: Width of the exact interval that ``width`` is divided by.
    """

    kind: str
    n: int
    truth: float | tuple[float, float]
    effective: float | None
    coverage: float
    width: float
    exact_width: float | None

    @property
    def relative_width(self) -> float | None:
        """Mean width divided by that of the exact interval; None if nothing varies."""
        return None if self.exact_width is None else self.width / self.exact_width


class Arm:
    """Values of one arm's observations as functions of the uniform number that decides each."""

    def __init__(self, kind: Kind, groups: np.ndarray, truth: float) -> None:
        """Set the probabilities of each observation to win and to tie."""
        harder = kind.difficulty(int(groups.max()) + 1)
        rate = 1 - (1 - truth) * (harder / harder.mean())[groups]
        self.possible = bool(rate.min() >= -1e-12)
        tied = np.minimum(rate, 1 - rate) if kind.ties else np.zeros_like(rate)
        self._lost, self._tied = 1 - rate - tied / 2, tied

    def values(self, uniform: np.ndarray) -> np.ndarray:
        """(…, N) values in {0, 1/2, 1}."""
        at_least_half = uniform >= self._lost
        won = uniform >= self._lost + self._tied
        return 0.5 * at_least_half + 0.5 * won

    def centered(self) -> np.ndarray:
        """Values less their means on a grid of the uniform number, (grid, N)."""
        values = self.values(np.repeat(_GRID[:, None], len(self._lost), axis=1))
        return values - values.mean(axis=0)


def covariance(first: Arm, second: Arm, layout: Layout, correlation: float, *, same: bool) -> float:
    """Covariance of two arms' shares, or the variance of one arm's.

    Args:
        first: One arm.
        second: Another arm with the same layout, or the same arm.
        layout: Layout of both.
        correlation: Correlation of two different observations of one picture.
        same: Whether the two are one arm, whose observations equal themselves.
    """
    products = first.centered().T @ second.centered() / len(_GRID)
    together = np.equal.outer(layout.cluster_of, layout.cluster_of)
    matrix = np.where(together, correlation * products, 0.0)
    if same:
        np.fill_diagonal(matrix, np.diag(products))
    return float(layout.weights @ matrix @ layout.weights)


def draws(
    layout: Layout, correlation: float, arms: int, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Uniform numbers of each arm's observations, (arms, R, N)."""
    own = rng.random((arms, count, layout.count))
    shared = rng.random((count, layout.num_clusters))[:, layout.cluster_of]
    copied = rng.random(own.shape) < np.sqrt(correlation)
    return np.where(copied, shared, own)


def exact_mean_width(truth: float, count: float) -> float:
    """Mean width of the exact interval of ``count`` independent observations, rounded."""
    n = max(1, round(count))
    hits = np.arange(n + 1)
    choose = np.array(
        [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in hits]
    )
    chances = np.exp(choose + hits * math.log(truth) + (n - hits) * math.log(1 - truth))
    low, high = exact_interval(hits / n, float(n))
    return float(chances @ (high - low))


def share_cell(kind: Kind, n: int, truth: float, *, replicates: int) -> Cell | None:
    """Simulate one share; None where the truth is impossible with that difficulty."""
    layout = Layout(*(part.tolist() for part in kind.place(n)))
    arm = Arm(kind, layout.group_of, truth)
    if not arm.possible:
        return None
    rng = np.random.default_rng(zlib.crc32(f"{kind.name}/{n}/{truth}".encode()))
    (uniform,) = draws(layout, kind.correlation, 1, rng, replicates)
    found = share_interval(arm.values(uniform), layout)
    spread = covariance(arm, arm, layout, kind.correlation, same=True)
    effective = truth * (1 - truth) / spread if spread > 1e-12 else None
    return Cell(
        kind.name,
        n,
        truth,
        effective,
        float(((found.low <= truth + 1e-9) & (found.high >= truth - 1e-9)).mean()),
        float((found.high - found.low).mean()),
        None if effective is None else exact_mean_width(truth, effective),
    )


def difference_cell(
    kind: Kind, n: int, truths: tuple[float, float], *, replicates: int
) -> Cell | None:
    """Simulate the difference of two arms."""
    layout = Layout(*(part.tolist() for part in kind.place(n)))
    other = layout
    if not kind.correlation:
        groups, pictures = kind.place(n)
        other = Layout(groups.tolist(), (pictures + n).tolist())
    arms = [Arm(kind, layout.group_of, truth) for truth in truths]
    if not all(arm.possible for arm in arms):
        return None
    rng = np.random.default_rng(zlib.crc32(f"{kind.name}/{n}/{truths}/difference".encode()))
    uniform = draws(layout, kind.correlation, 2, rng, replicates)
    first, second = (arm.values(own) for arm, own in zip(arms, uniform, strict=True))
    found = difference_interval(first, layout, second, other)
    truth = truths[0] - truths[1]
    spreads = [covariance(arm, arm, layout, kind.correlation, same=True) for arm in arms]
    between = covariance(*arms, layout, kind.correlation, same=False)
    counts = [p * (1 - p) / spread for p, spread in zip(truths, spreads, strict=True)]
    (low, other_low), (high, other_high) = exact_interval(np.array(truths), np.array(counts))
    r = between / math.sqrt(spreads[0] * spreads[1])
    down, up = truths[0] - low, high - truths[0]
    other_down, other_up = truths[1] - other_low, other_high - truths[1]
    exact = math.sqrt(down**2 - 2 * r * down * other_up + other_up**2)
    exact += math.sqrt(up**2 - 2 * r * up * other_down + other_down**2)
    return Cell(
        kind.name,
        n,
        truths,
        counts[0],
        float(((found.low <= truth + 1e-9) & (found.high >= truth - 1e-9)).mean()),
        float((found.high - found.low).mean()),
        exact,
    )


def simulate(
    *,
    replicates: int,
    counts: Sequence[int] = COUNTS,
    truths: Sequence[float] = TRUTHS,
    pairs: Sequence[tuple[float, float]] = PAIRS,
    kinds: Sequence[Kind] = KINDS,
    differences: Sequence[Kind] = DIFFERENCES,
) -> tuple[list[Cell], list[Cell]]:
    """Simulate all cells of shares and of differences."""
    shares = [
        share_cell(kind, n, truth, replicates=replicates)
        for kind in kinds
        for n in counts
        for truth in truths
    ]
    two = [
        difference_cell(kind, n, pair, replicates=replicates)
        for kind in differences
        for n in counts
        for pair in pairs
    ]
    return [cell for cell in shares if cell], [cell for cell in two if cell]


def as_table(cells: Sequence[Cell]) -> str:
    """Markdown table of coverage and relative width; lines are layouts, columns are truths."""
    truths = list(dict.fromkeys(cell.truth for cell in cells))
    lines = [f"| observations | n | {' | '.join(map(_truth, truths))} |"]
    lines.append("|---|---|" + "---|" * len(truths))
    for kind, n in dict.fromkeys((cell.kind, cell.n) for cell in cells):
        own = {cell.truth: cell for cell in cells if (cell.kind, cell.n) == (kind, n)}
        found = " | ".join(_found(own.get(truth)) for truth in truths)
        lines.append(f"| {kind} | {n} | {found} |")
    return "\n".join(lines) + "\n"


def _truth(truth: float | tuple[float, float]) -> str:
    parts = truth if isinstance(truth, tuple) else (truth,)
    return " − ".join(f"{100 * part:g} %" for part in parts)


def _found(cell: Cell | None) -> str:
    if cell is None:
        return ""
    width = "" if cell.relative_width is None else f", {cell.relative_width:.2f}"
    return f"{100 * cell.coverage:.1f}{width}"


def report(shares: Sequence[Cell], two: Sequence[Cell], *, replicates: int) -> str:
    """Format both tables with their explanation as Markdown."""
    least = min(cell.coverage for cell in (*shares, *two))
    widest = max(cell.relative_width or 0.0 for cell in shares)
    return f"""# How often the 95 % intervals hold

By `python benchmarks/interval_coverage.py`, {replicates:,} simulated evaluations a cell. A cell
holds the share of the intervals that contain the truth, in per cent, and their mean width by that
of the exact interval (Clopper-Pearson) of as many independent observations as the layout is worth.
The least coverage of all cells is {100 * least:.1f} %, the largest relative width of a share
{widest:.2f}. An empty cell is impossible; in one without a width, nothing varies.

## Shares

Low shares are high ones turned around: the intervals are the same.

{as_table(shares)}
## Differences of two arms

Held against the two exact intervals, combined at the true correlation (method of variance
recovery).

{as_table(two)}"""


def main() -> None:
    """Simulate and print; write the results unless in quick mode."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="Run few simulations, and write nothing."
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coverage"))
    given = parser.parse_args()
    replicates = 200 if given.quick else REPLICATES
    counts = (48,) if given.quick else COUNTS
    shares, two = simulate(replicates=replicates, counts=counts)
    text = report(shares, two, replicates=replicates)
    print(text)
    if given.quick:
        return
    cells = {
        name: [{**asdict(cell), "relative_width": cell.relative_width} for cell in found]
        for name, found in (("shares", shares), ("differences", two))
    }
    write_json(given.out.with_suffix(".json"), {"replicates": replicates, **cells})
    with replacing(given.out.with_suffix(".md")) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
