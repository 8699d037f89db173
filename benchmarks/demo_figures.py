"""The README's table of what the demo reaches, and the JSON behind it, from finished demos.

    sgflux demo
    sgflux demo --control
    sgflux demo --full
    python benchmarks/demo_figures.py

prints the table as Markdown and writes ``benchmarks/results/demo.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablation_plan import write_json

from sgflux.evaluation.evaluator import RESULTS
from sgflux.evaluation.headline import Figure, headline

COMMANDS = {
    "demo": "sgflux demo",
    "demo-control": "sgflux demo --control",
    "full": "sgflux demo --full",
}
"""Name of a demo's preset -> the command."""

AIMS = {
    "Base, neutral text": "chance",
    "Adapter, true graph g⁺": "85 %",
    "Win rate, role swap": "95 %",
    "Pairs new to the adapter": "within 5 points",
    "Two statements, true graph g⁺": "70 %",
}
"""Label of a headline's row -> what the demo is to reach."""

LEFT_OUT = ("Win rate, predicate", "Gain over the base")
"""Rows of a few observations, and what the others already say."""


def record(folder: Path, command: str) -> dict[str, Any]:
    """Everything of a demo's evaluation that its figures follow from, with paths as typed."""
    text = (folder / "evaluation" / RESULTS).read_text(encoding="utf-8")
    results = json.loads(text.replace(f"{Path.cwd()}/", ""))
    kept = {name: results[name] for name in ("adapter", "model", "settings")}
    figures = {row.label: asdict(row.figure) for row in headline(results)}
    return {"command": command, **kept, "figures": figures}


def as_table(demos: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line a figure, a column a demo."""
    labels = [name for name in demos["demo"]["figures"] if name not in LEFT_OUT]
    heads = " | ".join(f"`{demo['command']}`" for demo in demos.values())
    lines = [f"| | {heads} | aim |", "|---|" + "---|" * (len(demos) + 1)]
    for label in labels:
        cells = [_cell(demo["figures"].get(label)) for demo in demos.values()]
        lines.append(f"| {label} | {' | '.join(cells)} | {AIMS.get(label, '')} |")
    return "\n".join(lines)


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "–"
    figure = Figure(**entry)
    return f"{figure.percent} ({figure.interval})" if figure.interval else figure.percent


def main() -> None:
    """Read the demos, write the figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the demos")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.json"))
    given = parser.parse_args()
    demos = {name: record(given.runs / name, command) for name, command in COMMANDS.items()}
    write_json(given.out, demos)
    print(as_table(demos))


if __name__ == "__main__":
    main()
