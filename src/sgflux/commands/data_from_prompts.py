"""``sgflux data from-prompts``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgflux.commands.command import Command
from sgflux.errors import SgfluxError
from sgflux.settings.checks import expect_least
from sgflux.settings.flags import Files
from sgflux.settings.flat import Group
from sgflux.settings.vocabulary import VocabularySettings


@dataclass(frozen=True, kw_only=True)
class FromPromptsFlags:
    """Flags of ``sgflux data from-prompts``."""

    lists: Files
    """Your own copies of prompt lists: GenEval's evaluation_metadata.jsonl, GenEval 2's
    geneval2_data.jsonl, or text files with one prompt a line as those of T2I-CompBench."""
    output: Path
    """JSONL file of the rows. A summary with every line that is no row is written beside it."""
    max_statements: int = 4
    """Number of statements that a graph may have; "two cups on three plates" has six."""
    max_problems: int = 20
    """Number of lines not parsed that are printed for each file. The summary has all of them."""
    vocabulary: Group[VocabularySettings] = field(default_factory=VocabularySettings)
    """Vocabulary."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        expect_least(self, 1, "max_statements")
        expect_least(self, 0, "max_problems")


def run(command: Command, arguments: Sequence[str]) -> int:
    """Turn prompt lists into rows; returns 1 if a line was not parsed."""
    flags = command.parse(FromPromptsFlags, arguments)
    command.expect_files(flags.lists)
    from sgflux.data.benchmarks.reading import (
        expect_different_names,
        read_prompt_file,
        report_lines,
    )
    from sgflux.data.examples import write_examples
    from sgflux.files.writing import naming_disk_errors, replace_file
    from sgflux.graphs.predicates import vocabulary_of

    expect_different_names(flags.lists)
    summary = summary_path(flags.output)
    for path in flags.lists:
        if path.resolve() in (flags.output.resolve(), summary.resolve()):
            raise SgfluxError(
                f"{path}: is a list that is read, and would be overwritten; give another --output"
            )
    vocabulary = vocabulary_of(flags.vocabulary.vocabulary)
    files = [
        read_prompt_file(
            path,
            vocabulary=vocabulary,
            open_vocabulary=flags.vocabulary.open_vocabulary,
            max_statements=flags.max_statements,
        )
        for path in flags.lists
    ]
    for file in files:
        print("\n".join(report_lines(file, max_problems=flags.max_problems)))
    content = {
        "command": ["sgflux", *command.words, *arguments],
        "files": [file.to_json() for file in files],
    }
    rows = [row for file in files for row in file.rows]
    # The summary comes last: where the command was interrupted, there is none.
    with naming_disk_errors(summary):
        summary.unlink(missing_ok=True)
    if rows:
        print(f"{flags.output}: {write_examples(flags.output, rows):,} rows")
    replace_file(summary, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    if not rows:
        raise SgfluxError(
            f"{flags.output}: is not written, since no line is a row; {summary} says why of each"
        )
    print(f"{summary}: every line that is no row, with the reason")
    return 1 if any(file.not_parsed for file in files) else 0


def summary_path(output: Path) -> Path:
    """Return where the summary of a file of rows is written."""
    return output.with_name(f"{output.stem}_summary.json")


COMMAND = Command(
    words=("data", "from-prompts"),
    purpose="Turn prompt lists of GenEval, GenEval 2 and T2I-CompBench into graphs",
    example="sgflux data from-prompts geneval/prompts/evaluation_metadata.jsonl "
    "--output runs/geneval/prompts.jsonl",
    run=run,
)
