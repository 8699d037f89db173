"""``sgflux data check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgflux.commands.command import Command, Files


@dataclass(frozen=True, kw_only=True)
class DataCheckFlags:
    """Flags of ``sgflux data check``."""

    jsonl: Files
    """Files to check."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    open_vocabulary: bool = False
    """Accept any word as a predicate."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    max_problems: int = 20
    """Number of problems of each file that are printed; the rest is counted."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Check data sets; returns 1 if one has a problem."""
    flags = command.parse(DataCheckFlags, arguments)
    command.expect_files(flags.jsonl)
    from sgflux.data.check import check_dataset
    from sgflux.graphs.predicates import vocabulary_of

    vocabulary = vocabulary_of(flags.vocabulary)
    reports = []
    for path in flags.jsonl:
        report = check_dataset(
            path,
            images_dir=flags.images_dir,
            vocabulary=vocabulary,
            open_vocabulary=flags.open_vocabulary,
            progress=sys.stderr.isatty(),
        )
        print(report.to_text(max_problems=flags.max_problems))
        reports.append(report)
    return 0 if all(report.ok for report in reports) else 1


COMMAND = Command(
    words=("data", "check"),
    purpose="Check every row and picture of a data set",
    example="sgflux data check runs/world/train.jsonl runs/world/test.jsonl",
    run=run,
)
