"""``sgflux world measure-judge``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.settings.world_models import MeasureJudgeConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Measure the bundled world's judge on fresh pictures."""
    config = command.parse(MeasureJudgeConfig, arguments)
    with command.hold(config.output, beside=True):
        from sgflux.world.judge_measuring import measure_judge_file

        measure_judge_file(config)
    return 0


COMMAND = Command(
    words=("world", "measure-judge"),
    purpose="Measure how often the bundled world's judge is right",
    example="sgflux world measure-judge --output runs/judge/figures.json",
    run=run,
)
