"""``sgflux eval``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from sgflux.commands.command import Command
from sgflux.settings.evaluation import EvalConfig
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Evaluate an adapter and write the report."""
    config = command.parse(EvalConfig, arguments)
    from sgflux.evaluation import evaluator
    from sgflux.evaluation.report.data import find_metrics
    from sgflux.evaluation.companions import ALONE, Companions
    from sgflux.evaluation.report.headline import print_headline
    from sgflux.evaluation.report.page import write_report

    hide_loading_bars()
    companions: Companions = ALONE
    holding = command.hold(config.output_dir)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from sgflux.training.processes.launcher import check_launcher
        from sgflux.training.processes.processes import Processes

        check_launcher(dtype=config.compute.dtype)
        companions = processes = Processes.start(config.compute.device)
        device = replace(config.compute, device=str(processes.device))
        config = replace(config, compute=device)
        holding = processes.hold(config.output_dir, command=command.prog)
    is_first = companions.index == 0
    with holding:
        results = evaluator.evaluate(
            config,
            command=["sgflux", *command.words, *arguments],
            companions=companions,
            show_progress=is_first and sys.stderr.isatty(),
            say=print if is_first else _say_nothing,
        )
        if not is_first:
            return 0
        metrics = find_metrics(config.trained.adapter)
        report = write_report(config.output_dir, metrics=metrics)
    print_headline(results)
    print(f"report: {report}")
    return 0


def _say_nothing(line: str) -> None:
    """Leave it to the first process."""


COMMAND = Command(
    words=("eval",),
    purpose="Measure, with controls, whether pictures obey graphs",
    example="sgflux eval --adapter runs/first/final --model-id tiny "
    "--data runs/world/test.jsonl --output-dir runs/first/evaluation",
    run=run,
)
