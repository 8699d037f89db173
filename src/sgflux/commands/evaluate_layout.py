"""``sgflux eval layout``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sgflux.commands.command import Command
from sgflux.settings.flat import Flag, Input


@dataclass(frozen=True, kw_only=True)
class LayoutFlags:
    """Flags of ``sgflux eval layout``."""

    folder: Annotated[Path, Flag(is_input=True), tyro.conf.Positional]
    """Folder of an evaluation whose data are rows of 'sgflux data from-prompts'."""
    output_dir: Path | None = None
    """Folder to write, which must not be there yet. By default it is the folder 'layouts' in that
    of the evaluation."""
    data: Input[Path | None] = None
    """JSONL file of the rows. By default it is the file that the evaluation names."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write the pictures of an evaluation as the scripts of benchmarks read them."""
    flags = command.parse(LayoutFlags, arguments)
    target = flags.output_dir or flags.folder / "layouts"
    from sgflux.evaluation.layouts import write_layouts
    from sgflux.terminal.printable import counted

    for name, (benchmark, count) in write_layouts(flags.folder, target, data=flags.data).items():
        print(f"{target / name}: {counted(count, 'picture')} for the scripts of {benchmark}")
    return 0


COMMAND = Command(
    words=("eval", "layout"),
    purpose="Lay out an evaluation's pictures for the scripts of benchmarks",
    example="sgflux eval layout runs/geneval/evaluation",
    run=run,
)
