"""``sgflux train``, and the command line of the original training script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgflux.commands.command import Command, shown_example
from sgflux.commands.config_files import settings_of_files
from sgflux.commands.inputs import check_base, check_inputs, check_start
from sgflux.settings.files import shipped_configs
from sgflux.settings.flags import parse_flags
from sgflux.settings.training import TrainConfig
from sgflux.terminal.endings import BAD_INPUT, exit_status
from sgflux.terminal.quiet import hide_loading_bars

if TYPE_CHECKING:
    from sgflux.training.samples.observer import Observer

EXAMPLE = (
    "sgflux train --config configs/tiny_world.toml --train-jsonl runs/world/train.jsonl "
    "--val-jsonl runs/world/validation.jsonl --output-dir runs/first"
)
"""A command line to copy."""

_DESCRIPTION = """Train a scene-graph adapter.

Example:
{example}

Configuration:
  --config FILE reads settings from a .json or .toml file, which flags override.
  These come with sgflux and are found by name:
{shipped}

The losses are explained in docs/losses.md."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Train; returns 128 + signal after an interruption that was saved."""
    return _train(parse_train_config(arguments, prog=command.prog))


def _train(config: TrainConfig) -> int:
    check_inputs(config)
    check_start(
        config.start,
        output_dir=config.run.output_dir,
        allow_download=config.model.allow_download,
    )
    check_base(config.model)
    from sgflux.training.log.trackers import check_trackers

    check_trackers(config.run.trackers)
    if config.samples.sample_graphs is not None:
        from sgflux.graphs.reading import read_graph_file
        from sgflux.sampling.given import stating

        for given in read_graph_file(config.samples.sample_graphs, open_vocabulary=True):
            stating(given)
    from sgflux.training.processes.lost import LostProcessError
    from sgflux.training.run import train as trainer

    hide_loading_bars()
    try:
        return trainer.train(config, observe=_observer_of(config)).exit_status
    except LostProcessError as error:
        if error.is_first:
            raise
        return BAD_INPUT


def _observer_of(config: TrainConfig) -> Callable[[], Observer] | None:
    """What makes the judge of the sample graphs; None where nobody judges."""
    if config.judge is None:
        return None
    from sgflux.evaluation.observing import make_observer

    # As for the encoders of the finished adapter's sample: the training's device may be full.
    device = config.memory.encoder_device or "cpu"
    return partial(make_observer, config.judge, config.judges, device=device)


def parse_train_config(
    arguments: Sequence[str], *, prog: str = "sgflux train", example: str = EXAMPLE
) -> TrainConfig:
    """Read the flags of ``sgflux train``; ``--config FILE`` comes first, flags override it.

    Args:
        arguments: the flags, without the program's name.
        prog: the program's name in ``--help``.
        example: a command line to copy, for ``--help``.

    Raises:
        ConfigError: on a bad value or a bad config file.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    defaults, flags = settings_of_files(arguments)
    return parse_flags(
        TrainConfig,
        flags,
        prog=prog,
        description=_DESCRIPTION.format(
            example=shown_example(example),
            shipped="\n".join(f"    {name}" for name in sorted(shipped_configs())),
        ),
        defaults=defaults,
    )


def parse_original(arguments: Sequence[str], *, prog: str | None = None) -> TrainConfig:
    """Read the original training script's flags.

    All of them are flags of ``sgflux train``, with the same meaning and the same defaults; so the
    script takes every other flag of ``sgflux train``, too.

    Raises:
        ConfigError: on a bad value or a bad config file.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    return parse_train_config(
        arguments,
        prog=prog or Path(sys.argv[0]).name,
        example="python scripts/train/train_flux_graph_lora_diffusion.py "
        "--train-jsonl data/train.jsonl --val-jsonl data/validation.jsonl --output-dir runs/first "
        "--epochs 20 --batch-size 2 --lora-rank 16",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the original command line; returns the exit status, see :func:`exit_status`."""

    given = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: _train(parse_original(given)))


COMMAND = Command(
    words=("train",),
    purpose="Train a scene-graph adapter",
    example=EXAMPLE,
    run=run,
)
