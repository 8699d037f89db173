"""``sgflux world measure-base``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_base
from sgflux.settings.model_source import ModelSource
from sgflux.settings.world_models import MeasureBaseConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Measure a base by its captions."""
    config = command.parse(MeasureBaseConfig, arguments)
    check_base(ModelSource(model_id=config.model_id))
    with command.hold(config.output, beside=True):
        from sgflux.world.tiny_flux.gate import measure_base

        gate = measure_base(config)["gate"]
    print(json.dumps(gate, indent=2))
    print(f"all figures: {config.output}")
    return 0


COMMAND = Command(
    words=("world", "measure-base"),
    purpose="Measure what a base model draws from captions alone",
    example="sgflux world measure-base --model-id tiny",
    run=run,
)
