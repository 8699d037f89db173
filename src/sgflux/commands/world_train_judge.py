"""``sgflux world train-judge``."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.settings.world_models import TrainJudgeConfig


def run(command: Command, arguments: Sequence[str]) -> int:
    """Train the bundled world's judge."""
    config = command.parse(TrainJudgeConfig, arguments)
    with command.hold(config.output, beside=True):
        from sgflux.world.judge_training import save_confusion_figure, train_judge

        card = train_judge(config)
    if config.figure is not None:
        save_confusion_figure(card, config.figure)
    return 0


COMMAND = Command(
    words=("world", "train-judge"),
    purpose="Make the bundled world's judge anew",
    example="sgflux world train-judge --output runs/judge/world_judge.safetensors",
    run=run,
)
