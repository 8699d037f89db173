"""``sgflux export``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_adapter
from sgflux.settings.exporting import ExportConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Write an adapter for other programs."""
    config = command.parse(ExportConfig, arguments)
    adapter, folder = check_adapter(config.adapter), config.output_dir
    card: Any = {
        "evaluation": config.evaluation,
        "licence": config.license,
        "half": config.half,
        "rank": config.lora_rank,
        "drawing": config.drawing,
    }
    with ExitStack() as held:
        for place in (config.output, folder):
            if place is not None:
                held.enter_context(command.hold(place, beside=True))
        from sgflux.exporting import export_lora
        from sgflux.publishing import publish, write_published

        if config.format is not None and config.output is not None:
            print(
                export_lora(
                    adapter,
                    config.output,
                    layout=config.format,
                    scale=config.scale,
                    rank=config.lora_rank,
                )
            )
        if folder is not None:
            write_published(adapter, folder, repository=config.push_to_hub, **card)
            print(f"{folder}: the whole adapter as it is published, with pipeline.py")
        if config.push_to_hub is not None:
            address = publish(adapter, config.push_to_hub, private=config.private, **card)
            print(f"{address}: the whole adapter")
    return 0


COMMAND = Command(
    words=("export",),
    purpose="Write an adapter's LoRA for other programs, or publish it",
    example="sgflux export --adapter runs/first/final --format kohya --output lora.safetensors",
    run=run,
)
