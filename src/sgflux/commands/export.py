"""``sgflux export``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from sgflux.commands.command import Command
from sgflux.settings.exporting import ExportConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write an adapter for other programs."""
    config = command.parse(ExportConfig, arguments)
    from sgflux import exporting

    with ExitStack() as held:
        if config.output is not None:
            held.enter_context(command.hold(config.output, beside=True))
        if config.output_dir is not None:
            held.enter_context(command.hold(config.output_dir, beside=True))
        for line in exporting.export(config):
            print(line)
    return 0


COMMAND = Command(
    words=("export",),
    purpose="Write an adapter's LoRA for other programs, or publish it",
    example="sgflux export --adapter runs/first/final --format kohya --output lora.safetensors",
    run=run,
)
