"""``sgflux demo``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sgflux.commands.command import Command
from sgflux.settings.flat import Flag
from sgflux.terminal.quiet import hide_loading_bars


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Flags of ``sgflux demo``."""

    output_dir: Annotated[Path | None, Flag(former=("out_dir",))] = None
    """Folder of the data, the training and the report; a demo that was interrupted there goes on.
    By default it is a folder of its own under runs/."""
    full: bool = False
    """Train the adapter that comes with sgflux, on graphs of one to four statements, which takes
    hours."""
    control: bool = False
    """Run the negative control, which trains with text that already states the relation."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    flags = command.parse(DemoFlags, arguments)
    given = nullcontext() if flags.output_dir is None else command.hold(flags.output_dir)
    with given:
        from sgflux.world.demo import choose_preset, run_demo

        hide_loading_bars(on_a_terminal=True)  # the bundled model is there in a moment
        preset = choose_preset(full=flags.full, control=flags.control)
        return run_demo(preset, out_dir=flags.output_dir or Path("runs") / preset.name)


COMMAND = Command(
    words=("demo",),
    purpose="Train, evaluate and report on the bundled world (minutes)",
    example="sgflux demo --output-dir runs/demo",
    run=run,
)
