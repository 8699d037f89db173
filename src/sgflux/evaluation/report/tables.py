"""What a report tabulates beside the headline: arms against each other, predicates, confusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.judges.judge import NONE, predicate_of
from sgflux.evaluation.known.table import is_doubtful
from sgflux.evaluation.metrics import macro_estimate
from sgflux.evaluation.report.data import Evaluation
from sgflux.evaluation.report.headline import (
    ARM_TITLES,
    Figure,
    Results,
    arm_figure,
    predicate_figures,
)


@dataclass(frozen=True)
class ArmRow:
    """One arm beside the arm with the true graph.

    Attributes:
        arm: The arm.
        name: Name of the arm.
        told: Text about what the model is told.
        accuracy: Relation accuracy.
        objects: Share of pictures with all objects of their item.
        difference: Relation accuracy of the arm with the true graph minus this one's, paired.
        test: Sentence about the sign test; empty if there is none.
        corrected: Relation accuracy corrected for the judge's errors, of decided statements.
        raw: Relation accuracy of the same statements.
        decided: Share of statements that they are, of those with the same predicates.
        of_all: Least and largest share of all these statements that may be true; empty if none.
    """

    arm: Arm
    name: str
    told: str
    accuracy: Figure
    objects: Figure
    difference: Figure
    test: str
    corrected: Figure
    raw: Figure
    decided: Figure
    of_all: str


def arm_rows(results: Results) -> list[ArmRow]:
    """The arms whose pictures were judged, in reading order."""
    differences = results.get("differences") or {}
    rows = [
        ArmRow(
            arm,
            name,
            told,
            arm_figure(results, arm),
            Figure.of(results["arms"].get(arm, {}).get("objects_right")),
            Figure.of(differences.get(f"graph_minus_{arm}")),
            sign_test((results.get("comparisons") or {}).get(arm)),
            Figure.of(corrected, key="macro"),
            Figure.of(corrected.get("raw"), key="macro"),
            Figure.of(corrected.get("decided")),
            " to ".join(Figure(end).rounded for end in corrected.get("of_all", ())),
        )
        for arm, (name, told) in ARM_TITLES.items()
        for corrected in [results["arms"].get(arm, {}).get("corrected") or {}]
    ]
    return [row for row in rows if row.accuracy.value is not None]


def sign_test(comparison: Results | None) -> str:
    """The exact sign test of a paired comparison, in words; empty if the results have none."""
    if comparison is None:
        return ""
    better = comparison["better"]
    return (
        f"better on {better}, worse on {comparison['n_discordant'] - better}; "
        f"{p_value(comparison['p_sign'])}, Holm-adjusted {p_value(comparison['p_holm'])}"
    )


def p_value(p: float) -> str:
    """Text of a p-value."""
    return (
        "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"
        if p < 0.001
        else f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p:.3f}"
    )


def kind_table(results: Results) -> tuple[list[str], list[tuple[str, list[Figure]]]]:
    """Columns, and kind of graph -> how many pictures show every statement, in each column.

    The last column is how many pictures follow a graph that the text contradicts.
    """
    kinds = results.get("graph_kinds") or {}
    drawn = {arm for kind in kinds.values() for arm in kind["arms"]}
    arms = [arm for arm in ARM_TITLES if arm in drawn]
    columns = [ARM_TITLES[arm][0] for arm in arms]
    if contradicted := Arm.CONTRADICTION in drawn:
        columns.append("Text contradicts: follows the graph")
    rows = []
    for name, kind in kinds.items():
        figures = [Figure.of(kind["arms"].get(arm, {}).get("all_right")) for arm in arms]
        if contradicted:
            figures.append(Figure.of((kind["contradiction"] or {}).get("follows_graph")))
        rows.append((name, figures))
    return columns, rows


REFERENCES: dict[Arm, tuple[str, str]] = {
    Arm.BASE_NEUTRAL: ("the base with neutral text", "base"),
    Arm.NULL_GRAPH: ("the adapter without a graph", "no graph"),
}
"""Arm without a graph and relation -> (its name in a sentence, as a heading), best first."""


def reference_arm(results: Results) -> Arm | None:
    """The judged arm that the true graph is compared with; None where there is none."""
    judged = (arm for arm in REFERENCES if arm_figure(results, arm).value is not None)
    return next(judged, None)


@dataclass(frozen=True)
class PredicateRow:
    """Figures of one predicate.

    Attributes:
        name: The predicate.
        graph: Relation accuracy with the true graph.
        reference: The same of :func:`reference_arm`; without value where there is none.
        found: Share of statements under the true graph with both objects found.
        judge: Accuracy of the judge on real pictures of the predicate.
        told: Relation accuracy of the base, told the whole graph in words.
        corrected: Relation accuracy with the true graph, corrected for the judge's errors.
        is_doubtful: Whether the judge is not shown to be better than the majority answer.
    """

    name: str
    graph: Figure
    reference: Figure
    found: Figure
    judge: Figure
    told: Figure
    corrected: Figure
    is_doubtful: bool

    @property
    def is_clear(self) -> bool:
        """Whether the interval with the graph lies wholly above the reference's."""
        low, high = self.graph.low, self.reference.high
        return low is not None and high is not None and low > high


def predicate_rows(evaluation: Evaluation) -> list[PredicateRow]:
    """The predicates that were judged, best first."""
    results, nothing = evaluation.results, Figure(None)
    graph = predicate_figures(results, Arm.GRAPH)
    arm = reference_arm(results)
    reference = {} if arm is None else predicate_figures(results, arm)
    told = predicate_figures(results, Arm.BASE_RELATIONAL)
    judge = results["judge"].get("per_predicate", {})
    found = _found(evaluation)
    corrected = (results["arms"].get(Arm.GRAPH, {}).get("corrected") or {}).get("per_predicate", {})
    return [
        PredicateRow(
            name,
            graph[name],
            reference.get(name, nothing),
            found.get(name, nothing),
            Figure.of(judge.get(name)),
            told.get(name, nothing),
            Figure.of(corrected.get(name)),
            is_doubtful(results.get("calibration"), name),
        )
        for name in sorted(graph, key=lambda name: -(graph[name].value or 0.0))
        if graph[name].value is not None
    ]


def _found(evaluation: Evaluation) -> dict[str, Figure]:
    """Predicate -> share of statements with both objects found, under the true graph."""
    rows = [
        (float(said.found), predicate_of(triple), picture.image_rel_path)
        for picture in evaluation.pictures
        if picture.arm is Arm.GRAPH
        for triple, said in picture.own.items()
    ]
    groups = macro_estimate(rows).per_group if rows else {}
    return {name: Figure.of(estimate.to_json()) for name, estimate in groups.items()}


@dataclass(frozen=True)
class Confusion:
    """How often which relation is named where which one is stated.

    Attributes:
        counts: (stated, named) -> number of statements.
        doubtful: Stated relations about which the judge is not shown to be better than the
            majority answer.
    """

    counts: Counter[tuple[str, str]]
    doubtful: frozenset[str] = frozenset()

    def labelled(self, stated: str) -> str:
        """A stated relation, with a dagger where the judge is not to be trusted about it."""
        return f"{stated}†" if stated in self.doubtful else stated

    @property
    def stated(self) -> list[str]:
        """Relations that are stated, by name."""
        return sorted({stated for stated, _ in self.counts})

    @property
    def named(self) -> list[str]:
        """The same and others that are named; no relation comes last."""
        names = {name for pair in self.counts for name in pair} - {NONE}
        return [*sorted(names), *([NONE] if any(n == NONE for _, n in self.counts) else [])]

    def total(self, stated: str) -> int:
        """Number of statements with a predicate."""
        return sum(count for (name, _), count in self.counts.items() if name == stated)

    def most_frequent(self, limit: int) -> Sequence[tuple[str, str, int]]:
        """The most frequent (stated, named, count) of which the two differ."""
        wrong = [(*pair, count) for pair, count in self.counts.items() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda entry: (-entry[2], entry))[:limit]


def confusion(evaluation: Evaluation) -> Confusion:
    """Relations that the judge names under the true graph; empty if it names none."""
    counts = Counter(
        (predicate_of(triple), said.relation)
        for picture in evaluation.pictures
        if picture.arm is Arm.GRAPH
        for triple, said in picture.own.items()
        if said.relation is not None
    )
    calibration = evaluation.results.get("calibration")
    return Confusion(
        counts, frozenset(name for name, _ in counts if is_doubtful(calibration, name))
    )


@dataclass(frozen=True)
class Known:
    """How the judge did on statements of one source, as a table.

    Attributes:
        title: Source of the statements.
        columns: Headings of the figures.
        lines: Predicate, its figures and its number of statements; all predicates come first.
        counted: Predicates that count in the first line, if some do not; else none.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Figure], int]]
    counted: Sequence[str]

    @property
    def right(self) -> Figure:
        """How often the judge is right, over all predicates."""
        return self.lines[0][1][0]

    @property
    def majority(self) -> Figure:
        """How often the majority answer is right, over all predicates."""
        return self.lines[0][1][1]


_SOURCES = {
    "human": "Statements that people judged",
    "geometric": "Relations computed from annotated boxes",
    "stated": "Relations that the data set states",
}
_KNOWN = {
    "majority": "majority answer",
    "coverage": "both objects found",
    "confirmed": "accepts true ones",
    "swapped_accepted": "accepts swapped ones",
    "foreign_accepted": "accepts another picture's",
}


def calibration_tables(results: Results) -> list[Known]:
    """The judge's calibration, one table for each source of statements."""
    calibration = results.get("calibration") or {}
    tables = []
    for source, title in _SOURCES.items():
        if (entry := calibration.get(source)) is None:
            continue
        right = "agreement" if entry.get("agreement") is not None else "balanced"
        figures = {right: "right", **_KNOWN}
        each = sorted(entry.get("per_predicate", {}).items())
        counted = entry.get("predicates", [])
        doubtful = {
            name
            for name, standing in calibration["standing"].items()
            if standing.get("source") == source and is_doubtful(calibration, name)
        }
        lines = [
            (
                f"{name}†" if name in doubtful else name,
                [_known(one, figure) for figure in figures],
                one["n"],
            )
            for name, one in (("all", entry), *each)
        ]
        tables.append(
            Known(title, list(figures.values()), lines, counted if len(counted) < len(each) else [])
        )
    return tables


def _known(entry: Results, name: str) -> Figure:
    low, high = (entry.get("ci95") or {}).get(name) or (None, None)
    return Figure(entry.get(name), low, high, (entry.get("counts") or {}).get(name, 0))


@dataclass(frozen=True)
class QualityRow:
    """How far the pictures of an arm are from those of the base that is told the objects only.

    Attributes:
        arm: The arm.
        name: Name of the arm.
        distance: Distance, with its number of pictures.
        difference: Distance of the arm with the true graph less this one's.
    """

    arm: Arm
    name: str
    distance: Figure
    difference: Figure


@dataclass(frozen=True)
class QualityTable:
    """A distance between pictures.

    Attributes:
        title: Name of the distance.
        rows: The arms, in reading order.
    """

    title: str
    rows: Sequence[QualityRow]


def quality_tables(results: Results) -> list[QualityTable]:
    """The distances between sets of pictures; empty if they were not measured."""
    return [
        QualityTable(
            metric[:1].upper() + metric[1:],
            [
                QualityRow(
                    arm,
                    name,
                    Figure.of(by_arm[arm], is_share=False),
                    Figure.of(by_arm[arm].get("graph_minus_this"), is_share=False),
                )
                for arm, (name, _) in ARM_TITLES.items()
                if arm in by_arm
            ],
        )
        for metric, by_arm in (results.get("quality") or {}).items()
    ]


def moved_rows(results: Results) -> list[tuple[str, str, Figure]]:
    """Measure, the arm that is compared with the true graph's, and how far pictures move."""
    return [
        (
            "pixels, from 0 to 1" if measure == "pixel_distance" else measure.replace("_", " "),
            ARM_TITLES[Arm(pair.removeprefix("graph_to_"))][0],
            Figure.of(entry, is_share=False),
        )
        for measure, by_pair in (results.get("graph_sensitivity") or {}).items()
        for pair, entry in by_pair.items()
    ]


def traces(evaluation: Evaluation) -> dict[str, Any]:
    """Columns and rows of the table that leads from verdicts to files, seeds and graphs."""
    return {
        "columns": [
            "row", "arm", "repeat", "seed", "statements", "predicates", "verdicts", "read", "told",
            "prompt", "path", "image_rel_path",
        ],
        "rows": [
            [
                one.row,
                one.arm,
                one.repeat,
                one.seed,
                "; ".join(map(str, one.statements)),
                "|".join(one.predicates),
                "; ".join(str(said.outcome) for said in one.own.values()),
                "; ".join(said.words for said in one.own.values()),
                "; ".join(map(str, one.graph.labelled_triples() if one.graph else ())),
                one.prompt,
                str(one.path.relative_to(evaluation.folder)),
                one.image_rel_path,
            ]
            for one in evaluation.pictures
        ],
    }  # fmt: skip
