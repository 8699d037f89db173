"""The figures of an evaluation in the order in which they are to be read: the judge's own first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sgflux.evaluation.arms import Arm

Results = Mapping[str, Any]
"""The content of ``evaluation_results.json``."""

ARM_TITLES: dict[Arm, tuple[str, str]] = {
    Arm.BASE_NEUTRAL: ("Base, neutral text", "told the objects only"),
    Arm.BASE_RELATIONAL: ("Base, relational text", "told the relation in words"),
    Arm.NULL_GRAPH: ("Adapter, no graph", "told the objects only"),
    Arm.GRAPH: ("Adapter, true graph g⁺", "neutral text and the item's graph"),
    Arm.NEGATIVE_GRAPH: ("Adapter, false graph g⁻", "neutral text and a corrupted graph"),
    Arm.SHUFFLED_GRAPH: ("Adapter, another graph", "neutral text and another item's graph"),
}
"""Arm -> (its name, what the model is told), in reading order; contradiction has a table row of
its own, since there text and graph state different things."""


@dataclass(frozen=True)
class Figure:
    """A share with its interval, as an evaluation writes it.

    Attributes:
        value: in [0, 1]; None where there was nothing to observe.
        low: of the 95 % interval, or None.
        high: of the 95 % interval, or None.
        n: number of observations.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None, *, key: str = "value") -> Figure:
        """Read a JSON entry; ``key`` is where its value stands. No entry is no observation."""
        if not entry or entry.get(key) is None:
            return cls(None)
        low, high = entry.get("ci95") or (None, None)
        return cls(float(entry[key]), low, high, int(entry.get("n", 0)))

    @property
    def percent(self) -> str:
        """The value, like "74.2 %", with a blank at which no line breaks."""
        return "–" if self.value is None else f"{100 * self.value:.1f}\N{NO-BREAK SPACE}%"

    @property
    def interval(self) -> str:
        """The interval in per cent, like "70.1 to 78.0"."""
        if self.low is None or self.high is None:
            return ""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"


@dataclass(frozen=True)
class HeadlineRow:
    """A figure and what it says.

    Attributes:
        group: heading that it stands under.
        label: its name.
        note: what is compared, or what it means.
        figure: the figure.
        arm: the arm that it is of, if it is of one.
    """

    group: str
    label: str
    note: str
    figure: Figure
    arm: Arm | None = None


def headline(results: Results) -> list[HeadlineRow]:
    """All rows of the headline table for which there are observations."""
    return [row for row in _rows(results) if row.figure.value is not None]


def _rows(results: Results) -> Iterator[HeadlineRow]:
    judge = results.get("judge") or {}
    if judge:
        note = f"{judge.get('name', '')}, on {judge.get('calibrated_on', 'real pictures')}"
        yield HeadlineRow("The judge", "Judge accuracy", note, Figure.of(judge, key="accuracy"))
        for kind, entry in (judge.get("false_acceptance") or {}).items():
            label, note = (
                f"False acceptance, {kind}",
                f"a relation is named between {entry['pairs']}",
            )
            yield HeadlineRow("The judge", label, note, Figure.of(entry))
    arms = results.get("arms", {})
    for arm, (label, note) in ARM_TITLES.items():
        figure = arm_figure(results, arm)
        yield HeadlineRow("Pictures that show the item's relation", label, note, figure, arm)
    group = "Does the graph decide?"
    for kind, entry in sorted((results.get("win_rate_by_kind") or {}).items(), reverse=True):
        note = "each picture is preferred under its own graph; chance is 50 %"
        yield HeadlineRow(group, f"Win rate, {_words(kind)}", note, Figure.of(entry))
    if not results.get("win_rate_by_kind"):
        yield HeadlineRow(group, "Win rate", "chance is 50 %", Figure.of(results.get("win_rate")))
    note = "e(g⁺) < e(g⁻) on real pictures, without sampling or judge; chance is 50 %"
    yield HeadlineRow(group, "Ranking accuracy", note, Figure.of(results.get("ranking_accuracy")))
    followed = arms.get(str(Arm.NEGATIVE_GRAPH), {}).get("given_graph_accuracy")
    note = "the adapter is told the false graph and draws it: the counterpart of the true graph"
    yield HeadlineRow(
        group, "False graph, drawn as it states", note, Figure.of(followed, key="macro")
    )
    difference = (results.get("differences") or {}).get(f"graph_minus_{Arm.BASE_NEUTRAL}")
    note = "relation accuracy with the true graph minus that of the base, paired by image"
    yield HeadlineRow(group, "Gain over the base", note, Figure.of(difference))
    contradiction = results.get("contradiction") or {}
    note = "the text states another predicate than the graph"
    for key, label in (
        ("follows_graph", "Contradiction: follows the graph"),
        ("follows_text", "Contradiction: follows the text"),
    ):
        yield HeadlineRow(group, label, note, Figure.of(contradiction.get(key)))
    group = "Relation accuracy by pairs of objects, with the true graph"
    graph = arms.get(str(Arm.GRAPH), {})
    held_out = graph.get("held_out_combinations") or {}
    for key, label, note in (
        ("held_out", "Pairs of objects never trained on", "relation accuracy"),
        ("seen", "Pairs of objects seen in training", "relation accuracy"),
    ):
        yield HeadlineRow(group, label, note, Figure.of(held_out.get(key), key="macro"))
    told = arms.get(str(Arm.BASE_RELATIONAL), {}).get("all_triples_right") or {}
    group = "Pictures that show every statement of their item"
    for size, entry in (graph.get("all_triples_right") or {}).items():
        label = _NUMBERS.get(size, f"{size} statements")
        yield HeadlineRow(group, f"{label}, true graph g⁺", "neutral text", Figure.of(entry))
        note = "told in words: what the base can draw at all"
        yield HeadlineRow(group, f"{label}, base in words", note, Figure.of(told.get(size)))


_NUMBERS = {"1": "One statement", "2": "Two statements", "3": "Three statements"}


def arm_figure(results: Results, arm: Arm) -> Figure:
    """Macro relation accuracy of one arm."""
    entry = results.get("arms", {}).get(str(arm), {})
    return Figure.of(entry.get("relation_accuracy"), key="macro")


def predicate_figures(results: Results, arm: Arm) -> dict[str, Figure]:
    """Relation accuracy of one arm by predicate."""
    entry = results.get("arms", {}).get(str(arm), {}).get("relation_accuracy", {})
    return {name: Figure.of(value) for name, value in entry.get("per_predicate", {}).items()}


def verdict(results: Results) -> str:
    """What came out, in a few sentences."""
    graph, base = arm_figure(results, Arm.GRAPH), arm_figure(results, Arm.BASE_NEUTRAL)
    sentences = []
    if graph.value is not None:
        sentence = f"Given the graph, {graph.percent} of the pictures show the stated relation"
        if base.value is not None:
            sentence += f"; the base model, told only the objects, shows it in {base.percent}"
        sentences.append(sentence + ".")
    win = Figure.of(results.get("win_rate"))
    if win.value is not None:
        negatives = _words(results["win_rate"].get("negatives", "a false graph"))
        sentences.append(
            f"Between a graph and its negative ({negatives}), the picture matches its own graph "
            f"{win.percent} of the time, where chance is 50\N{NO-BREAK SPACE}%."
        )
    ranking = Figure.of(results.get("ranking_accuracy"))
    if graph.value is None and ranking.value is not None:
        sentences.append(
            f"The true graph explains real pictures better than a false one {ranking.percent} of "
            "the time, where chance is 50\N{NO-BREAK SPACE}%. Nobody has judged the pictures."
        )
    judge = Figure.of(results.get("judge"), key="accuracy")
    if judge.value is not None:
        sentences.append(f"The judge itself is right about {judge.percent} of real pictures.")
    return " ".join(sentences)


def print_headline(results: Results, *, console: Console | None = None) -> None:
    """Print the headline table."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")  # wraps where there is no room, so that no figure is ever cut
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    group = ""
    for row in headline(results):
        if row.group != group:
            if group:
                table.add_row()
            group = row.group
            table.add_row(f"[dim]{group}[/dim]")
        chief = row.arm is Arm.GRAPH
        name = f"[bold]{row.label}[/bold]" if chief else row.label
        value = f"[bold]{row.figure.percent}[/bold]" if chief else row.figure.percent
        table.add_row(f"  {name}", value, row.figure.interval, str(row.figure.n))
    (console or Console(highlight=False)).print(table)


def _words(kind: str) -> str:
    return kind.replace("_", " ")
