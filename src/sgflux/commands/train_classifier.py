"""``sgflux train-classifier``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_base
from sgflux.settings.classifier import ClassifierConfig
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Train a classifier of relations, for the rankers that need one."""
    config = command.parse(ClassifierConfig, arguments)
    check_base(config.model)
    with command.hold(config.output_dir, beside=True):
        from sgflux.training.classifier import training as classifier_training

        hide_loading_bars()
        card = classifier_training.train_classifier(config)
    low, high = card.held_out["ci95"]
    print(
        f"held-out accuracy {card.held_out['accuracy']:.1%} [{low:.1%}, {high:.1%}], chance "
        f"{card.held_out['chance']:.1%}, calibration error "
        f"{card.held_out['calibration']['ece']:.1%}: {config.output_dir}"
    )
    if not card.is_better_than_chance:
        print("this is not above chance: training will refuse it as a loss", file=sys.stderr)
    return 0


COMMAND = Command(
    words=("train-classifier",),
    purpose="Train a classifier of relations, for the ranking losses that need one",
    example="sgflux train-classifier --model-id tiny --height 64 --width 64 "
    "--train-jsonl runs/world/train.jsonl --val-jsonl runs/world/validation.jsonl "
    "--output-dir runs/classifier",
    run=run,
)
