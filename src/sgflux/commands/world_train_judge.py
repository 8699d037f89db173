"""``sgflux world train-judge``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgflux.commands.command import Command
from sgflux.settings.shared import MaxSteps, OutputFile


@dataclass(frozen=True, kw_only=True)
class TrainJudgeFlags:
    """Flags of ``sgflux world train-judge``."""

    output: OutputFile
    """File of the judge's weights (.safetensors). Its figures go beside it, with the ending
    .json."""
    figure: Path | None = None
    """Picture file for the confusion matrix. By default none is written."""
    scenes: int = 96_000
    """Number of pictures to train on."""
    max_steps: MaxSteps = 4000
    """Number of training steps."""
    batch_size: int = 128
    """Number of pictures in a training step."""
    minutes: float | None = None
    """Number of minutes after which the training ends, with the learning rate following the clock.
    By default it ends after --max-steps."""
    measure_single: int = 4800
    """Number of pictures with one triple that the judge is measured on."""
    measure_multi: int = 1200
    """Number of pictures with two or three triples that the judge is measured on."""
    seed: int = 0
    """Random seed of weights, pictures and their order."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Train the bundled world's judge."""
    flags = command.parse(TrainJudgeFlags, arguments)
    from sgflux.world.judge_training import save_confusion_figure, train_judge

    with command.hold(flags.output, beside=True):
        card = train_judge(
            out_path=flags.output,
            scenes=flags.scenes,
            steps=flags.max_steps,
            batch_size=flags.batch_size,
            minutes=flags.minutes,
            measure_single=flags.measure_single,
            measure_multi=flags.measure_multi,
            seed=flags.seed,
        )
    if flags.figure is not None:
        save_confusion_figure(card, flags.figure)
    return 0


COMMAND = Command(
    words=("world", "train-judge"),
    purpose="Make the bundled world's judge anew",
    example="sgflux world train-judge --output runs/judge/world_judge.safetensors",
    run=run,
)
