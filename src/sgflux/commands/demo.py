"""``sgflux demo``."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Where everything goes, a folder of its own under runs/ if not given; a demo that was
    interrupted there goes on."""
    full: bool = False
    """Train by the longer recipe (4,000 steps, hours on two CPU cores) instead of the short one."""
    control: bool = False
    """The negative control: train with text that already states the relation."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    flags = command.parse(DemoFlags, arguments)
    hide_loading_bars(on_a_terminal=True)  # the bundled model is there in a moment
    from sgflux.world.demo import choose_preset, run_demo

    preset = choose_preset(full=flags.full, control=flags.control)
    return run_demo(preset, out_dir=flags.output_dir or Path("runs") / preset.name)


COMMAND = Command(
    words=("demo",),
    purpose="Train, evaluate and report on the bundled world (minutes)",
    example="sgflux demo --output-dir runs/demo",
    run=run,
)
