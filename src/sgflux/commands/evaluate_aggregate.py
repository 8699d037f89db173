"""``sgflux eval aggregate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sgflux.commands.command import Command
from sgflux.settings.flat import Flag
from sgflux.settings.shared import OptionalOutputFile


@dataclass(frozen=True, kw_only=True)
class AggregateFlags:
    """Flags of ``sgflux eval aggregate``."""

    folder: Annotated[Path, Flag(is_input=True), tyro.conf.Positional]
    """Folder of an evaluation."""
    output: OptionalOutputFile = None
    """JSON file of the results with the figures that were made again. By default they are only
    printed."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Make the figures again; returns 1 if one is not that on record."""
    flags = command.parse(AggregateFlags, arguments)
    from sgflux.evaluation.aggregation import aggregate
    from sgflux.evaluation.records import comparison_lines
    from sgflux.evaluation.report.headline import print_headline
    from sgflux.files.writing import replace_file

    results, changed = aggregate(flags.folder)
    print_headline(results)
    for line in (*comparison_lines(results), *changed):
        print(line)
    if not changed:
        print("every figure is the one on record")
    if flags.output is not None:
        replace_file(flags.output, json.dumps(results, indent=2, allow_nan=False) + "\n")
        print(f"results: {flags.output}")
    return 1 if changed else 0


COMMAND = Command(
    words=("eval", "aggregate"),
    purpose="Make an evaluation's figures again from its results.jsonl",
    example="sgflux eval aggregate runs/first/evaluation",
    run=run,
)
