"""``sgflux import``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_base
from sgflux.settings.exporting import ImportConfig
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Read an adapter of the earlier training script."""
    config = command.parse(ImportConfig, arguments)
    check_base(config.model)
    with command.hold(config.output_dir, beside=True):
        from sgflux.exporting import import_adapter

        hide_loading_bars()
        lines = import_adapter(
            config.legacy,
            config.output_dir,
            model=config.model,
            cgip_ckpt=config.cgip_ckpt,
            vocab_path=config.vocab_path,
            graph_mode=config.graph_mode,
            lora_alpha=config.lora_alpha,
            max_sequence_length=config.max_sequence_length,
        )
    print("\n".join(lines))
    return 0


COMMAND = Command(
    words=("import",),
    purpose="Read an adapter of the earlier training script",
    example="sgflux import --legacy graph_lora.pt --cgip-ckpt sip_vg.pt "
    "--vocab-path vocab.json --output-dir runs/imported",
    run=run,
)
