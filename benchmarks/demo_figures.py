"""Write the demo's figures: five rows of the README, the table of docs/results.md, their JSON.

    sgflux demo
    sgflux demo --control
    sgflux demo --full
    python benchmarks/demo_figures.py

writes ``benchmarks/results/demo.json`` and, from it, the parts between two marks of README.md and
docs/results.md, so that no figure there is typed by hand. A demo that was not run keeps the figures
that the JSON has of it. ``--reprint`` writes both pages from the JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from result_files import write_json

from sgflux.errors import SgfluxError
from sgflux.evaluation.records import RESULTS
from sgflux.evaluation.report.headline import Figure, cut_notes, footnotes, headline, kind_rows
from sgflux.files.writing import replacing
from sgflux.training.log.run_log import duration
from sgflux.world.demo import RECORD as DEMO_RECORD

COMMANDS = {
    "demo": "sgflux demo",
    "demo-control": "sgflux demo --control",
    "full": "sgflux demo --full",
}
"""Name of a demo's preset -> the command."""

AIMS: dict[str, tuple[str, float | None]] = {
    "Base, neutral text": ("chance", None),
    "Adapter, true graph g⁺": ("85 %", 0.85),
    "Win rate, role swap": ("95 %", 0.95),
    "Pairs new to the adapter": ("within 5 points", None),
    "Two statements, true graph g⁺": ("70 %", 0.70),
}
"""Label of a headline's row -> what the short demo is to reach, in words and as a share."""

FULL_AIMS: dict[str, tuple[str, float | None]] = {
    "Base, neutral text": ("chance", None),
    "Contradiction: follows the graph": ("90 %", 0.90),
    "Pairs new to the adapter": ("within 5 points", None),
    "One statement, true graph g⁺": ("99 %", 0.99),
    "Two statements, true graph g⁺": ("95 %", 0.95),
    "Three statements, true graph g⁺": ("80 %", 0.80),
    "Four statements, true graph g⁺": ("60 %", 0.60),
}
"""Label of a headline's row -> what ``--full`` is to reach."""

LEFT_OUT = ("Win rate, predicate", "Gain over the base", "Relation right, where both are found")
"""Rows of a few observations, and what the others already say."""

BEGIN, END = (
    "<!-- What follows is written by: python benchmarks/demo_figures.py -->",
    "<!-- Up to here it was written by: python benchmarks/demo_figures.py -->",
)
"""Marks in both pages around what is written here."""

OBJECTS_OF = ("base_neutral", "null_graph", "graph")
"""Arms whose share of pictures with all objects is kept."""


def record(folder: Path, command: str) -> dict[str, Any]:
    """All of a demo's evaluation that its figures depend on, with paths as typed."""
    text = (folder / "evaluation" / RESULTS).read_text(encoding="utf-8")
    results = json.loads(text.replace(f"{Path.cwd()}/", ""))
    kept = {name: results[name] for name in ("adapter", "model", "settings")}
    progress = folder / DEMO_RECORD
    seconds = json.loads(progress.read_text("utf-8"))["seconds"] if progress.is_file() else {}
    hard = folder / "hard" / RESULTS
    return {
        "command": command,
        "seconds": seconds,
        **kept,
        "figures": {row.label: asdict(row.figure) for row in headline(results)},
        "objects": {
            arm: asdict(Figure.of(results["arms"][arm].get("objects_right")))
            for arm in OBJECTS_OF
            if arm in results["arms"]
        },
        "chance": asdict(Figure.of(results["chance"].get("random_drawing"))),
        "footnotes": footnotes(results),
        **({"hard": hard_record(hard)} if hard.is_file() else {}),
    }


def hard_record(path: Path) -> dict[str, Any]:
    """What the bundled adapter reached on graphs of three statements at the end of a demo."""
    results = json.loads(path.read_text(encoding="utf-8"))
    return {
        "adapter": results["adapter"]["fingerprint"],
        "figures": {row.label: asdict(row.figure) for row in kind_rows(results, group="")},
        "footnotes": cut_notes(results),
    }


def as_table(demos: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line a figure, a column a demo."""
    labels = list(dict.fromkeys(name for demo in demos.values() for name in demo["figures"]))
    heads = " | ".join(f"`{demo['command']}`" for demo in demos.values())
    lines = [f"| | {heads} | aim | aim of `--full` |", "|---|" + "---|" * (len(demos) + 2)]
    for label in labels:
        if label in LEFT_OUT:
            continue
        cells = [_cell(demo["figures"].get(label)) for demo in demos.values()]
        for aims in (AIMS, FULL_AIMS):
            aim, _ = aims.get(label, ("", None))
            cells.append(f"chance, {_chance(demos)}" if aim == "chance" else aim)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    hard = [demo.get("hard", {}).get("figures", {}) for demo in demos.values()]
    for label in dict.fromkeys(name for figures in hard for name in figures):
        cells = [_cell(figures.get(label)) for figures in hard]
        lines.append(f"| {label} (bundled adapter) | {' | '.join(cells)} | | |")
    return "\n".join(lines)


def as_text(demos: dict[str, dict[str, Any]]) -> str:
    """What the figures say, in sentences: all numbers are those of the table and its JSON."""
    full, control = demos["full"], demos["demo-control"]

    def of(label: str, demo: dict[str, Any] = full) -> str:
        return _figure(demo["figures"].get(label)).percent

    said = [
        f"""In `--full`, on graphs of one to four statements, the adapter draws the relation of its
        graph in {of("Adapter, true graph g⁺")} of all cases, its base that is told everything in
        words in {of("Base, relational text")}; all of three statements in
        {of("Three statements, true graph g⁺")} and {of("Three statements, base in words")} of the
        pictures, all of four in {of("Four statements, true graph g⁺")} and
        {of("Four statements, base in words")}. On pairs of objects that are new to the adapter
        (its base was trained on all pairs) it draws a relation in
        {of("Pairs new to the adapter")}, on the others in {of(_SEEN)}. Where the text
        contradicts the graph, {of("Contradiction: follows the graph")} of the pictures follow the
        graph and {of("Contradiction: follows the text")} the text. Without a graph the relation is
        right in {of("Adapter, no graph")} (chance is {_chance(demos)}). The adapter of
        `sgflux demo --control` shows the relation of its graph in
        {of("Adapter, true graph g⁺", control)}.""",
        _aims_met(demos),
    ]
    objects = {arm: _figure(entry).percent for arm, entry in full.get("objects", {}).items()}
    if set(OBJECTS_OF) <= set(objects):
        said.append(
            f"""All objects are there in {objects["graph"]} of the pictures of `--full` with the
            graph, in {objects["null_graph"]} without one, and in {objects["base_neutral"]} of the
            base's."""
        )
    times = [
        f"`{demo['command']}` {duration(sum(demo['seconds'].values()))}"
        for demo in demos.values()
        if demo.get("seconds")
    ]
    if times:
        said.append(f"The runs of this table took: {', '.join(times)}.")
    if (hard := demos["demo"].get("hard")) is not None:
        said.append(
            " ".join(["The last rows are of graphs of three statements.", *hard["footnotes"]])
        )
    said += full.get("footnotes", [])
    return "\n\n".join(textwrap.fill(re.sub(r"[ \n]+", " ", text), width=118) for text in said)


_SEEN = "Pairs in the adapter's training"


def _aims_met(demos: dict[str, dict[str, Any]]) -> str:
    """A sentence that names the aims that the runs reach, and by how much they miss the others."""
    missed = []
    for demo in (demos["demo"], demos["full"]):
        figures = demo["figures"]
        aims = FULL_AIMS if demo is demos["full"] else AIMS
        for label, (said, aim) in aims.items():
            figure = _figure(figures.get(label))
            if said == "chance" and not _may_be_chance(figure, demo):
                missed.append(
                    f"{label} in `{demo['command']}` ({figure.percent} ({figure.interval}), aim "
                    f"chance, {_chance(demos)} ({_figure(demo['chance']).interval}))"
                )
            if aim is not None and (figure.value is None or figure.value < aim):
                missed.append(
                    f"{label} in `{demo['command']}` ({figure.percent}, aim {100 * aim:.0f} %)"
                )
        new, seen = (
            _figure(figures.get(name)).value for name in ("Pairs new to the adapter", _SEEN)
        )
        if new is not None and seen is not None and seen - new > 0.05:
            missed.append(
                f"new pairs in `{demo['command']}` ({100 * (seen - new):.1f} points less)"
            )
    if missed:
        return f"Of the aims of the table these are missed: {'; '.join(missed)}."
    return "All aims of the table are met."


def _may_be_chance(figure: Figure, demo: dict[str, Any]) -> bool:
    """Whether the intervals of a figure and of random drawing meet."""
    chance = _figure(demo.get("chance"))
    if figure.low is None or figure.high is None or chance.low is None or chance.high is None:
        return figure.value == chance.value
    return figure.low <= chance.high and chance.low <= figure.high


def _chance(demos: dict[str, dict[str, Any]]) -> str:
    return _figure(demos["demo"].get("chance")).percent


def _figure(entry: dict[str, Any] | None) -> Figure:
    return Figure(None) if entry is None else Figure(**entry)


def as_rows(demos: dict[str, dict[str, Any]]) -> str:
    """Markdown: five rows of figures of the short demo, each with a sentence that explains it."""
    demo, control = demos["demo"]["figures"], demos["demo-control"]["figures"]
    hard = demos["demo"].get("hard", {}).get("figures", {})
    three, twins = "3 statements", "3 statements, twins"
    at_chance = _may_be_chance(_figure(demo["Base, neutral text"]), demos["demo"])
    rows = [
        (
            "One or two statements",
            demo["Adapter, true graph g⁺"],
            demo["Base, relational text"],
            "These are shares of relations. The adapter's text names the objects only, so the "
            "relation has to come from its graph. The base reads the statements in its text.",
        ),
        (
            "Three statements",
            hard.get(f"{three}: Adapter, true graph g⁺"),
            hard.get(f"{three}: Base, relational text"),
            "A picture is right here if it shows all three. The adapter of this row and the next "
            "one comes with sgflux (`--adapter tiny`).",
        ),
        (
            "Three statements with twins",
            hard.get(f"{twins}: Adapter, true graph g⁺"),
            hard.get(f"{twins}: Base, relational text"),
            "Two objects have one name, such as two dogs, and only the statements tell them apart.",
        ),
        (
            "Nothing",
            demo["Adapter, no graph"],
            demo["Base, neutral text"],
            f"Neither text nor graph has the relation; random drawing reaches {_chance(demos)}"
            + ("." if at_chance else ", the aim of the base, which it misses."),
        ),
        (
            "One or two statements, negative control",
            control["Adapter, true graph g⁺"],
            None,
            "This adapter was trained with text that already states the relation "
            f"(`{demos['demo-control']['command']}`), which leaves nothing to learn from a graph.",
        ),
    ]
    lines = [
        "| what is stated | right, adapter | right, base | what it means |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {_cell(adapter)} | {_cell(base)} | {meaning} |"
        for name, adapter, base, meaning in rows
    ]
    return "\n".join(lines)


def blocks(demos: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Page, from the project's folder -> what stands there from the first to the second mark."""
    return {
        "README.md": f"{BEGIN}\n\n{as_rows(demos)}\n",
        "docs/results.md": f"{BEGIN}\n\n{as_table(demos)}\n\n{as_text(demos)}\n",
    }


def write_between_marks(path: Path, block: str) -> None:
    """Write the block into the page between its marks.

    Raises:
        SgfluxError: if the marks are not there, once each and in order.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SgfluxError(f"{path} has not the two lines {BEGIN!r} and {END!r}, in this order")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    with replacing(path) as file:
        file.write(f"{before}{block}\n{after}".encode())


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "–"
    figure = Figure(**entry)
    return f"{figure.percent} ({figure.interval})" if figure.interval else figure.percent


def recorded(runs: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Read the demos below a folder; one that is not there keeps what the JSON says of it.

    One with the pictures of the bundled adapter alone, ``hard``, keeps the rest: its training does
    not depend on that adapter.

    Raises:
        SgfluxError: if a demo is neither there nor in the JSON.
    """
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    demos = {}
    for name, command in COMMANDS.items():
        hard = runs / name / "hard" / RESULTS
        if name in before and hard.is_file() and not (runs / name / "evaluation").is_dir():
            print(f"{name}: {runs / name} has the bundled adapter's figures alone, which are read")
            demos[name] = {**before[name], "hard": hard_record(hard)}
        elif (runs / name).is_dir():
            demos[name] = record(runs / name, command)
        elif name in before:
            print(f"{name}: {runs / name} is not there, so its figures stay as they are")
            demos[name] = before[name]
        else:
            raise SgfluxError(f"{runs / name} is not there; run '{command}'")
    return demos


def main() -> None:
    """Read the demos, write the figures and both pages, and print the parts written there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="Folder of the demos.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.json"))
    parser.add_argument("--pages", type=Path, default=Path(), help="Folder of README.md and docs/.")
    parser.add_argument(
        "--reprint", action="store_true", help="Write the pages from the JSON, without runs."
    )
    given = parser.parse_args()
    if given.reprint:
        demos = json.loads(given.out.read_text(encoding="utf-8"))
    else:
        demos = recorded(given.runs, given.out)
        write_json(given.out, demos)
    for page, block in blocks(demos).items():
        write_between_marks(given.pages / page, block)
        print(block)


if __name__ == "__main__":
    main()
