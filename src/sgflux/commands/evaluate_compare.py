"""``sgflux eval compare``."""

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
class CompareFlags:
    """Flags of ``sgflux eval compare``."""

    first: Annotated[Path, Flag(is_input=True), tyro.conf.Positional]
    """Folder of an evaluation."""
    second: Annotated[Path, Flag(is_input=True), tyro.conf.Positional]
    """Folder of another evaluation, on the same data, noises and arms by the same judge."""
    output: OptionalOutputFile = None
    """JSON file of the differences. By default they are only printed."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Compare two evaluations pair by pair."""
    flags = command.parse(CompareFlags, arguments)
    from sgflux.evaluation.comparing import compare_runs, print_comparison
    from sgflux.files.writing import replace_file

    content = compare_runs(flags.first, flags.second)
    print_comparison(content)
    if flags.output is not None:
        replace_file(flags.output, json.dumps(content, indent=2, allow_nan=False) + "\n")
        print(f"differences: {flags.output}")
    return 0


COMMAND = Command(
    words=("eval", "compare"),
    purpose="Compare two finished evaluations, arm by arm and pair by pair",
    example="sgflux eval compare runs/first/evaluation runs/second/evaluation",
    run=run,
)
