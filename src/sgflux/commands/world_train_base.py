"""``sgflux world train-base``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.settings.world_models import TrainBaseConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Train tiny-flux from nothing."""
    config = command.parse(TrainBaseConfig, arguments)
    with command.hold(config.output_dir):
        from sgflux.world.tiny_flux.recipe import train_base

        print(train_base(config))
    return 0


COMMAND = Command(
    words=("world", "train-base"),
    purpose="Make the bundled model anew (hours)",
    example="sgflux world train-base --output-dir runs/tiny-flux",
    run=run,
)
