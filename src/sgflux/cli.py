"""The command line: finds the command, runs it, and says in one line what is wrong with the input.

The commands themselves are in :mod:`sgflux.commands`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import sgflux
from sgflux.commands import COMMANDS
from sgflux.errors import SgfluxError
from sgflux.terminal.endings import BAD_INPUT, exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sgflux``; returns the exit status.

    0: done; 1: a check found problems; 2: bad input, with one line on standard error; 130:
    interrupted. A traceback means a defect of sgflux.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_status(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> int:
    if words[:1] in (["--version"], ["-V"]):
        print(f"sgflux {sgflux.__version__}")
        return 0
    # The longest name first: "eval report" is no argument of "eval".
    for command in sorted(COMMANDS, key=lambda command: -len(command.words)):
        size = len(command.words)
        if tuple(words[:size]) == command.words:
            return command.run(command, words[size:])
    groups = {command.words[0] for command in COMMANDS if len(command.words) > 1}
    group = words[0] if words and words[0] in groups else None
    rest = words if group is None else words[1:]
    if not rest or rest[0] in ("--help", "-h", "help"):
        _print_commands(group)
        return 0 if rest else BAD_INPUT
    names = [" ".join(c.words) for c in COMMANDS if group in (None, c.words[0])]
    asked = " ".join(words[:1] if group is None else words[:2])
    near = difflib.get_close_matches(asked, names, n=1)
    hint = f"did you mean 'sgflux {near[0]}'?" if near else "'sgflux --help' lists them"
    raise SgfluxError(f"there is no command 'sgflux {asked}'; {hint}")


def _print_commands(group: str | None) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    prog = "sgflux" if group is None else f"sgflux {group}"
    if group is None:
        console.print(Text.assemble(("sgflux ", "bold"), (sgflux.__version__, "bold")))
        console.print(f"{sgflux.__doc__}\n")
    console.print(Text.assemble(("usage: ", "bold"), f"{prog} COMMAND [FLAGS]\n"))
    listed = [command for command in COMMANDS if group in (None, command.words[0])]
    table = Table.grid(padding=(0, 3, 0, 0))
    for command in listed:
        table.add_row(Text(" ".join(command.words), "bold cyan"), command.purpose)
    console.print(Padding(table, (0, 0, 0, 2)))
    example = "demo" if group is None else next(c for c in COMMANDS if c.words[0] == group)
    first = example if isinstance(example, str) else " ".join(example.words)
    console.print(
        f"\n'sgflux {first} --help' explains a command's flags, with an example.", style="dim"
    )
