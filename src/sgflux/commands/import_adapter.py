"""``sgflux import``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.settings.exporting import ImportConfig
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Read an adapter of the earlier training script."""
    config = command.parse(ImportConfig, arguments)
    from sgflux import exporting

    hide_loading_bars()
    with command.hold(config.output_dir, beside=True):
        for line in exporting.import_adapter(config):
            print(line)
    return 0


COMMAND = Command(
    words=("import",),
    purpose="Read an adapter of the earlier training script",
    example="sgflux import --legacy graph_lora.pt --cgip-ckpt sip_vg.pt "
    "--vocab-path vocab.json --output-dir runs/imported",
    run=run,
)
