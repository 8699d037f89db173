"""The figures of a calibration as a table and in sentences, each with its number of statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgflux.evaluation.known.pictures import Source

_TITLES = {
    Source.HUMAN: "statements that people judged",
    Source.GEOMETRIC: "relations computed from annotated boxes",
    Source.STATED: "relations that the data set states",
}
_COLUMNS = ("n", "found", "right", "95 %", "majority", "true", "swapped", "foreign", "better?")

DOUBTFUL = (
    "†: the judge's calibration does not show it to be better than the majority answer about this "
    "predicate."
)
"""Explains the mark of such a predicate."""


def print_calibration(content: Mapping[str, Any], *, console: Console | None = None) -> None:
    """Print one table for each source of statements, and what it means."""
    console = console or Console(highlight=False)
    judge = content["judge"]
    model = f" ({judge['model']})" if judge["model"] else ""
    console.print(f"judge {judge['name']!r}{model} on {content['pictures']:,} pictures")
    for source, title in _TITLES.items():
        if source not in content:
            continue
        own = content[source]
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("in %", no_wrap=True)
        for column in _COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for name, entry in own["per_predicate"].items():
            marked = name if name in own["predicates"] else f"{name} *"
            table.add_row(marked, *_cells(entry))
        table.add_section()
        table.add_row(Text("all", "bold"), *_cells(own))
        console.print()
        console.print(Text(title, "bold"))
        console.print(table)
        if len(own["predicates"]) < len(own["per_predicate"]):
            console.print(Text("* is not counted in the last row", "dim"))
    console.print()
    for line in notes(content):
        console.print(Text(line, "dim"))


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    measured = "agreement" if "agreement" in entry else "balanced"
    yield f"{entry['n']:,}"
    yield _number(entry["coverage"])
    interval = entry["ci95"][measured]
    yield _number(entry[measured])
    yield "" if interval is None else f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f}"
    yield _number(entry["majority"])
    for name in ("confirmed", "swapped_accepted", "foreign_accepted"):
        yield _number(entry[name])
    yield entry["better_than_majority"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def notes(content: Mapping[str, Any]) -> Iterator[str]:
    """Say what the columns mean, and what was left out."""
    yield (
        "found: the judge found both objects; the columns after it are of those statements alone. "
        "right: the judge says what is known, with its 95 % interval; where all statements are "
        "true, the mean of true ones accepted and swapped ones rejected. majority: what the more "
        "frequent answer reaches. true, swapped, foreign: such statements that the judge accepts; "
        "the last, true of another picture, of all that were asked. better: whether the judge is "
        "better than the majority answer, and accepts true statements more often than those of "
        "another picture; 'open' where an interval does not decide it."
    )
    for source, title in _TITLES.items():
        if (own := content.get(source)) is not None and not _tells_roles(own):
            yield (
                f"Who does what to whom: of {title} the judge accepts "
                f"{_percent(own['confirmed'])} of the true ones, and "
                f"{_percent(own['swapped_accepted'])} of the same with their objects swapped "
                f"(majority answer {_percent(own['majority'])}). It is not shown to tell the two "
                "apart."
            )
    if content["not_covered"]:
        listed = ", ".join(f"{name} ({count})" for name, count in content["not_covered"].items())
        yield f"The judge does not cover these predicates (number of statements): {listed}."
    if content.get("left_out"):
        listed = ", ".join(f"{count:,} {what}" for what, count in content["left_out"].items())
        yield f"Left out: {listed}."


def _tells_roles(entry: Mapping[str, Any]) -> bool:
    """Whether true statements are accepted more often than swapped ones, or nothing was swapped."""
    true, swapped = entry["ci95"]["confirmed"], entry["ci95"]["swapped_accepted"]
    return true is None or swapped is None or true[0] > swapped[1]


def summary_line(content: Mapping[str, Any]) -> str:
    """Say in one line how far the judge is trusted, for the side of any figure that it gave."""
    parts = []
    for source, title in _TITLES.items():
        entry = content.get(source)
        if entry is None:
            continue
        is_labelled = entry.get("agreement") is not None
        measured, verb = ("agreement", "right about") if is_labelled else ("confirmed", "confirms")
        interval = entry.get("ci95", {}).get(measured)
        within = "" if interval is None else f" [{interval[0]:.1%}, {interval[1]:.1%}]"
        parts.append(
            f"{title}: {verb} {_percent(entry.get(measured))}{within} (majority answer "
            f"{_percent(entry['majority'])}), accepts {_percent(entry.get('swapped_accepted'))} of "
            f"swapped ones and {_percent(entry.get('foreign_accepted'))} of those of other "
            f"pictures, finds both objects of {_percent(entry.get('coverage'))} "
            f"(n = {entry['n']:,})"
        )
    return f"Calibration of the judge {content['judge']['name']!r} on known pictures. " + "; ".join(
        parts
    )


def doubtful(content: Mapping[str, Any]) -> dict[str, str]:
    """Return predicate -> figures of the judge, where it does not beat the majority answer."""
    return {
        name: f"{_percent(entry.get('value'))} right, majority {_percent(entry.get('majority'))}, "
        f"n = {entry.get('n', 0)}{_not_told_apart(entry.get('told_apart') or {})}"
        for name, entry in content["standing"].items()
        if entry.get("better_than_majority") != "yes"
    }


def is_doubtful(calibration: Mapping[str, Any] | None, predicate: str) -> bool:
    """Whether a calibration leaves open if the judge beats the majority answer on a predicate."""
    if calibration is None:
        return False
    return (calibration["standing"].get(predicate) or {}).get("better_than_majority") != "yes"


def _not_told_apart(entry: Mapping[str, Any]) -> str:
    """Say it where true statements and those of other pictures are not told apart for certain."""
    if entry.get("value") is None or (entry["ci95"] or (0.0,))[0] > 0.5:
        return ""
    return f"; apart from statements of other pictures {_percent(entry['value'])}, chance 50 %"
