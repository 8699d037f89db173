"""The figures of an evaluation in the order in which they are to be read: the judge's own first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgflux.caveats import caveats
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.records import calibration_lines, correction_lines, coverage_line
from sgflux.graphs.predicates import CANONICAL_PREDICATES

Results = Mapping[str, Any]
"""The content of ``evaluation_results.json``."""

ARM_TITLES: dict[Arm, tuple[str, str]] = {
    Arm.BASE_NEUTRAL: ("Base, neutral text", "told the objects only"),
    Arm.BASE_RELATIONAL: ("Base, relational text", "told the whole graph in words"),
    Arm.NULL_GRAPH: ("Adapter, no graph", "told the objects only"),
    Arm.GRAPH: ("Adapter, true graph g⁺", "neutral text and the item's graph"),
    Arm.NEGATIVE_GRAPH: (
        "Adapter, negative graph g⁻",
        "neutral text and the graph with one relationship changed",
    ),
    Arm.SHUFFLED_GRAPH: ("Adapter, another graph", "neutral text and another item's graph"),
}
"""Arm -> (its name, what the model is told), in reading order; contradiction has a table row of
its own, since there text and graph state different things."""


@dataclass(frozen=True)
class Figure:
    """A share or a number with its interval, as an evaluation writes it.

    Attributes:
        value: None where there was nothing to observe.
        low: Lower end of the 95 % interval, or None.
        high: Upper end of the 95 % interval, or None.
        n: number of observations.
        is_share: whether it is shown in per cent; errors and gaps are plain numbers.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    is_share: bool = True

    @classmethod
    def of(
        cls,
        entry: Mapping[str, Any] | None,
        *,
        key: str = "value",
        is_share: bool = True,
    ) -> Figure:
        """Read a JSON entry; ``key`` is where its value stands. No entry is no observation."""
        if not entry or entry.get(key) is None:
            return cls(None, is_share=is_share)
        low, high = entry.get("ci95") or (None, None)
        return cls(float(entry[key]), low, high, int(entry.get("n", 0)), is_share)

    def negated(self) -> Figure:
        """The figure with the other sign."""
        value, low, high = (None if n is None else -n for n in (self.value, self.high, self.low))
        return replace(self, value=value, low=low, high=high)

    @property
    def percent(self) -> str:
        """The value, like "74.2 %", with a blank at which no line breaks; "0.963" of no share."""
        if self.value is None:
            return "–"
        if not self.is_share:
            return _signed(f"{self.value:.3f}")
        return _signed(f"{100 * self.value:.1f}\N{NO-BREAK SPACE}%")

    @property
    def points(self) -> str:
        """A difference of shares with its sign, like "+57.7 points"."""
        if self.value is None:
            return "–"
        return _signed(f"{100 * self.value:+.1f} points")

    @property
    def rounded(self) -> str:
        """The share without decimals, like "74 %"."""
        return "–" if self.value is None else f"{100 * self.value:.0f}\N{NO-BREAK SPACE}%"

    @property
    def interval(self) -> str:
        """The interval in per cent, like "70.1 to 78.0", or in plain numbers."""
        if self.low is None or self.high is None:
            return ""
        if not self.is_share:
            return _signed(f"{self.low:.3f} to {self.high:.3f}")
        return _signed(f"{100 * self.low:.1f} to {100 * self.high:.1f}")


def _signed(text: str) -> str:
    """Numbers with a minus sign in place of a hyphen."""
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class HeadlineRow:
    """A figure and what it says.

    Attributes:
        group: heading that it stands under.
        label: Name of the figure.
        note: Explanation of the comparison or of its result.
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
            note = f"a relation is named between {entry.get('pairs', kind)}"
            yield HeadlineRow("The judge", f"False acceptance, {kind}", note, Figure.of(entry))
    arms = results.get("arms", {})
    for arm, (label, note) in ARM_TITLES.items():
        figure = arm_figure(results, arm)
        note += f"; {_over(arms.get(str(arm), {}).get('relation_accuracy'))}"
        yield HeadlineRow("Pictures that show the item's relation", label, note, figure, arm)
    group = "The same, corrected for the judge's errors"
    for arm, (label, _) in ARM_TITLES.items():
        if entry := arms.get(str(arm), {}).get("corrected"):
            figure = Figure.of(entry, key="macro")
            yield HeadlineRow(group, label, correction_note(entry), figure, arm)
    group = "Does the graph decide?"
    for kind, entry in sorted((results.get("win_rate_by_kind") or {}).items(), reverse=True):
        note = "each picture is preferred under its own graph; chance is 50 %"
        yield HeadlineRow(group, f"Win rate, {_words(kind)}", note, Figure.of(entry))
    if not results.get("win_rate_by_kind"):
        yield HeadlineRow(group, "Win rate", "chance is 50 %", Figure.of(results.get("win_rate")))
    yield from _ranking_rows(group, results.get("ranking_accuracy") or {})
    followed = arms.get(str(Arm.NEGATIVE_GRAPH), {}).get("given_graph_accuracy")
    note = "the adapter is told the negative graph and draws it: the counterpart of the true graph"
    yield HeadlineRow(
        group, "Negative graph, drawn as it states", note, Figure.of(followed, key="macro")
    )
    difference = (results.get("differences") or {}).get(f"graph_minus_{Arm.BASE_NEUTRAL}")
    note = "relation accuracy with the true graph minus that of the base, paired by image"
    yield HeadlineRow(group, "Gain over the base", note, Figure.of(difference))
    contradiction = results.get("contradiction") or {}
    note = "the text states another predicate than the graph"
    for who in ("graph", "text"):
        figure = Figure.of(contradiction.get(f"follows_{who}"))
        yield HeadlineRow(group, f"Contradiction: follows the {who}", note, figure)
    group = "Relation accuracy by pairs of objects, with the true graph"
    graph = arms.get(str(Arm.GRAPH), {})
    held_out = graph.get("held_out_combinations") or {}
    apart = "not in its training; the base may have seen them"
    for key, label, note in (
        ("held_out", "Pairs new to the adapter", apart),
        ("seen", "Pairs in the adapter's training", "the others"),
    ):
        entry = held_out.get(key)
        yield HeadlineRow(group, label, f"{note}; {_over(entry)}", Figure.of(entry, key="macro"))
    group = "Relations and their objects, with the true graph"
    objects = graph.get("relation_by_objects") or {}
    note = "the relation is right, and the judge finds both objects"
    figure = Figure.of(objects.get("right_and_found"), key="macro")
    yield HeadlineRow(group, "Relation right, objects found", note, figure)
    note = "a relation read from an object that the judge does not find counts as right above"
    for key, label in (
        ("right_if_found", "Relation right, where both are found"),
        ("right_if_missing", "Relation right, where one is missing"),
    ):
        yield HeadlineRow(group, label, note, Figure.of(objects.get(key)))
    yield from _whole_graph_rows("Pictures that show every statement of their item", results)


def _ranking_rows(group: str, ranking: Results) -> Iterator[HeadlineRow]:
    """Ranking accuracy, and the errors that it compares and does not tell."""
    note = "e(g⁺) < e(g⁻) on real pictures, without sampling or judge; chance is 50 %"
    yield HeadlineRow(group, "Ranking accuracy", note, Figure.of(ranking))
    for key, label, note in (
        ("graph", "e(g⁺), error under the true graph", "of the velocity, on real pictures"),
        (
            "negative_graph",
            "e(g⁻), error under a negative graph",
            "role swaps and other predicates",
        ),
        ("null_graph", "e(∅), error without a graph", "the same adapter, pictures and noise"),
    ):
        entry = (ranking.get("errors") or {}).get(key)
        yield HeadlineRow(group, label, note, Figure.of(entry, is_share=False))
    gap = Figure.of((ranking.get("gap") or {}).get("null_graph"), is_share=False)
    note = "above 0: the graph moves the velocity away from the data's"
    yield HeadlineRow(group, "e(g⁺) less e(∅)", note, gap.negated())


def _whole_graph_rows(group: str, results: Results) -> Iterator[HeadlineRow]:
    """How often a whole graph is drawn, by its size, and again for graphs with twins."""
    told = {
        Arm.GRAPH: ("true graph g⁺", "neutral text"),
        Arm.BASE_RELATIONAL: ("base in words", "told in words: what the base can draw at all"),
    }
    arms = results.get("arms", {})
    by_size = {arm: arms.get(str(arm), {}).get("all_triples_right") or {} for arm in told}
    kinds = [
        (size, "", {arm: by_size[arm].get(size) for arm in told}) for size in by_size[Arm.GRAPH]
    ]
    for kind, own in (results.get("graph_kinds") or {}).items():
        if "twins" in kind:
            size, _, rest = kind.partition(" statements")
            entries = {arm: own["arms"].get(str(arm), {}).get("all_right") for arm in told}
            kinds.append((size, rest, entries))
    for size, rest, entries in kinds:
        name = _NUMBERS.get(size, f"{size} statements") + rest
        for arm, (what, note) in told.items():
            if rest:
                note = "two objects have one name; these pictures also count above"
            yield HeadlineRow(group, f"{name}, {what}", note, Figure.of(entries[arm]))


def correction_note(entry: Results) -> str:
    """What a corrected figure is of, and what the judge's own figure is."""
    raw, decided = Figure.of(entry["raw"], key="macro"), Figure.of(entry["decided"])
    low, high = (Figure(end).percent for end in entry["of_all"])
    return (
        f"{_over(entry)}; of the {decided.percent} of their statements that the judge decides "
        f"about, of which it accepts {raw.percent}. Of all of them {low} to {high} may be true"
    )


def _over(entry: Mapping[str, Any] | None) -> str:
    """Over how many predicates a macro figure is the mean."""
    count = (entry or {}).get("predicates", len((entry or {}).get("per_predicate", {})))
    if not count:
        return "mean over predicates"
    return f"mean over {count} predicate{'' if count == 1 else 's'}"


def footnotes(results: Results) -> list[str]:
    """What has to be known to read the headline's figures, a sentence or two each."""
    notes = caveats(results)
    if (line := coverage_line(results.get("judge") or {})) is not None:
        notes.append(line)
    notes += calibration_lines(results.get("calibration"))
    notes += correction_lines(results.get("correction"))
    arms = results.get("arms", {})
    graph = arms.get(str(Arm.GRAPH)) or {}
    shown = graph or next(iter(arms.values()), {})
    relation = shown.get("relation_accuracy") or {}
    if relation.get("macro") is not None:
        count = relation.get("predicates", len(relation.get("per_predicate", {})))
        absent = len(CANONICAL_PREDICATES) - count
        how = (
            "the judge's likeliest relation from the statement's subject to its object is the "
            "stated one, whether or not it finds the two"
            if (results.get("judge") or {}).get("classes")
            else "the share of statements that hold by the judge's verdict"
        )
        notes.append(
            f"Relation accuracy: {how}. It is the mean over the {count} predicates that occur"
            + (f"; {absent} of {len(CANONICAL_PREDICATES)} do not." if absent > 0 else ".")
        )
    if (chance := chance_sentence(results)) is not None:
        notes.append(chance)
    if (sentence := ranking_sentence(results.get("ranking_accuracy") or {})) is not None:
        notes.append(sentence)
    if graph.get("held_out_combinations"):
        notes.append(
            "Pairs new to the adapter are combinations of objects that its training left out. Its "
            "base was trained before, on all of them where it is the bundled tiny-flux."
        )
    if (sentence := wording_sentence(results.get("base_prompts"))) is not None:
        notes.append(sentence)
    notes += cut_notes(results)
    return notes


def chance_sentence(results: Results) -> str | None:
    """What random drawing reaches, as measured; None where it has not been."""
    drawn = Figure.of((results.get("chance") or {}).get("random_drawing"))
    if drawn.value is None:
        return None
    return (
        f"Chance is {drawn.percent} ({drawn.interval}): that is how often the judge reads the "
        f"stated relation in {drawn.n:,} statements about pictures that show the named objects in "
        "random relations."
    )


def wording_sentence(chosen: Results | None) -> str | None:
    """In which wording the base was told graphs; None where none was chosen."""
    if not chosen:
        return None
    names = [f"{size}: {name}" for size, name in chosen["chosen"].items()]
    return (
        f"Base, relational text: of {len(chosen['wordings'])} wordings, the base is told graphs in "
        f"the one that did best on {chosen['rows']:,} validation examples ({chosen['data']}), by "
        f"number of statements: {', '.join(names)}."
    )


def ranking_sentence(ranking: Results) -> str | None:
    """What ranking accuracy does not say: how large the errors are, and why."""
    graph, null = ranking.get("error_graph"), ranking.get("error_null_graph")
    if graph is None or null is None or ranking.get("value") is None:
        return None
    start = (
        "Ranking accuracy only compares two graphs under the same adapter. Its error is "
        f"{graph:.3f} under the true graph and {null:.3f} without a graph: "
    )
    if graph <= null:
        return start + "the true graph also explains the pictures better than none."
    return start + (
        "the graph moves the velocity away from the data's. That is the effect of a guided teacher "
        "(--lambda-words): its velocity goes further towards the relation than the data's, and the "
        "adapter learns it. Pictures are judged by relation accuracy, not by this error."
    )


def cut_notes(results: Results) -> list[str]:
    """One sentence about every arm's cut prompts; that there are none is said, too."""
    cut = results.get("prompts_cut") or {}
    arms = (cut.get("arms") or {}).items()
    named = [
        f"{name} {entry['cut']} of {entry['pictures']}" for name, entry in arms if entry["cut"]
    ]
    if not named:
        return [f"No prompt was cut at the text encoder's {cut['limit']} tokens."] if arms else []
    return [
        f"Prompts cut at the text encoder's {cut['limit']} tokens, so that their end was not read: "
        f"{', '.join(named)}."
    ]


_NUMBERS = {
    "1": "One statement",
    "2": "Two statements",
    "3": "Three statements",
    "4": "Four statements",
}


def arm_figure(results: Results, arm: Arm) -> Figure:
    """Macro relation accuracy of one arm."""
    entry = results.get("arms", {}).get(str(arm), {})
    return Figure.of(entry.get("relation_accuracy"), key="macro")


def predicate_figures(results: Results, arm: Arm) -> dict[str, Figure]:
    """Relation accuracy of one arm by predicate."""
    entry = results.get("arms", {}).get(str(arm), {}).get("relation_accuracy", {})
    return {name: Figure.of(value) for name, value in entry.get("per_predicate", {}).items()}


def kind_rows(results: Results, *, group: str) -> list[HeadlineRow]:
    """Rows of the pictures that show whole graphs, by kind of graph and arm.

    Args:
        results: Content of ``evaluation_results.json``.
        group: Heading of the rows.
    """
    return [
        HeadlineRow(group, f"{kind}: {label}", note, Figure.of(own["arms"][arm]["all_right"]), arm)
        for kind, own in (results.get("graph_kinds") or {}).items()
        for arm, (label, note) in ARM_TITLES.items()
        if arm in own["arms"]
    ]


def print_headline(
    results: Results, *, further: Sequence[HeadlineRow] = (), console: Console | None = None
) -> None:
    """Print the headline table and what has to be known to read it.

    Args:
        results: Content of ``evaluation_results.json``.
        further: Rows of another evaluation, which stand below.
        console: Console to print on.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")  # wraps where there is no room, so that no figure is ever cut
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    group = ""
    for row in (*headline(results), *further):
        if row.group != group:
            if group:
                table.add_row()
            group = row.group
            table.add_row(Text(group, "dim"))
        style = "bold" if row.arm is Arm.GRAPH else ""
        table.add_row(
            Text(f"  {row.label}", style),
            Text(row.figure.percent, style),
            row.figure.interval,
            str(row.figure.n),
        )
    console = console or Console(highlight=False)
    console.print(table)
    for note in footnotes(results):
        console.print()
        console.print(Text(note, "dim"))


def _words(kind: str) -> str:
    return kind.replace("_", " ")
