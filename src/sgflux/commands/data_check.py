"""``sgflux data check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from sgflux.commands.command import Command
from sgflux.settings.flags import Files
from sgflux.settings.flat import Group
from sgflux.settings.shared import ImagesDir
from sgflux.settings.vocabulary import VocabularySettings


@dataclass(frozen=True, kw_only=True)
class DataCheckFlags:
    """Flags of ``sgflux data check``."""

    jsonl: Files
    """JSONL files to check."""
    images_dir: ImagesDir = None
    max_problems: int = 20
    """Number of problems that are printed for each file. Further ones are counted."""
    vocabulary: Group[VocabularySettings] = field(default_factory=VocabularySettings)
    """Vocabulary."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Check data sets; returns 1 if one has a problem."""
    flags = command.parse(DataCheckFlags, arguments)
    command.expect_files(flags.jsonl)
    from sgflux.data.check import check_dataset
    from sgflux.graphs.predicates import vocabulary_of

    vocabulary = vocabulary_of(flags.vocabulary.vocabulary)
    reports = []
    for path in flags.jsonl:
        report = check_dataset(
            path,
            images_dir=flags.images_dir,
            vocabulary=vocabulary,
            open_vocabulary=flags.vocabulary.open_vocabulary,
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
