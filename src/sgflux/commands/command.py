"""A command of ``sgflux``: its words, its line in the list of commands, and the function it runs.

A command's flags are the fields of a frozen dataclass. Libraries that take seconds to import, torch
above all, are imported when the command has looked at its inputs and holds the folder into which
it writes, so that neither ``--help`` nor an error about a path waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.commands.inputs import check_inputs
from sgflux.errors import SgfluxError
from sgflux.files.folder_lock import hold_folder
from sgflux.settings.flags import Flags, parse_flags


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        words: Words that are typed after ``sgflux``.
        purpose: Line for the list of commands.
        example: Command line to copy.
        run: Function of this command and the arguments after its words; returns the exit status.
    """

    words: tuple[str, ...]
    purpose: str
    example: str
    run: Callable[[Command, Sequence[str]], int]

    @property
    def prog(self) -> str:
        """Name of the program in help texts and messages."""
        return " ".join(("sgflux", *self.words))

    @property
    def description(self) -> str:
        """Text of ``--help`` above the flags."""
        return f"{self.purpose}.\n\nExample:\n{shown_example(self.example)}"

    def parse(
        self,
        flags: type[Flags],
        arguments: Sequence[str],
        *,
        defaults: Mapping[str, Any] | None = None,
        more: str = "",
    ) -> Flags:
        """Read the command's flags, a dataclass, from the command line.

        Args:
            flags: The dataclass.
            arguments: The arguments after the command's words.
            defaults: Setting -> its value if no flag gives it, in place of the dataclass's own.
            more: Further text of ``--help`` above the flags.

        Raises:
            SgfluxError: on a bad value, or naming an input file that is not there.
            SystemExit: after ``--help``, or on flags that cannot be read (with a message).
        """
        parsed = parse_flags(
            flags,
            arguments,
            prog=self.prog,
            description=self.description + more,
            defaults=defaults,
        )
        check_inputs(parsed)
        return parsed

    def expect_files(self, files: Sequence[Path]) -> None:
        """Check that the command was given a file.

        Raises:
            SgfluxError: with an example of the command.
        """
        if not files:
            raise SgfluxError(f"no file is named; for example: {self.example}")

    def hold(
        self, folder: Path, *, beside: bool = False, part: str = ""
    ) -> AbstractContextManager[None]:
        """Lock a folder against other commands; :func:`~sgflux.files.folder_lock.hold_folder`."""
        return hold_folder(folder, command=self.prog, beside=beside, part=part)


def shown_example(example: str) -> str:
    """A command line to copy in lines of at most 78 characters, each but the last continued."""
    lines = [""]
    for part in re.split(" (?=--)", example):
        if lines[-1] and len(lines[-1]) + len(part) > 73:
            lines[-1] += " \\"
            lines.append("  ")
        lines[-1] += part if not lines[-1].strip() else f" {part}"
    return "\n".join(f"  {line}" for line in lines)
