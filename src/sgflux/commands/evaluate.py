"""``sgflux eval``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.commands.together import together
from sgflux.settings.evaluation import EvalConfig
from sgflux.terminal.quiet import hide_loading_bars


def run(command: Command, arguments: Sequence[str]) -> int:
    """Evaluate an adapter and write the report."""
    config = command.parse(EvalConfig, arguments)
    if config.generator == "model":
        check_given(config.model, config.trained)
    with together(command, config) as (config, (companions, is_first, say)):
        from sgflux.evaluation import evaluator
        from sgflux.evaluation.records import comparison_lines
        from sgflux.evaluation.report.data import find_metrics
        from sgflux.evaluation.report.headline import print_headline
        from sgflux.evaluation.report.page import write_report

        hide_loading_bars()
        results = evaluator.evaluate(
            config,
            command=["sgflux", *command.words, *arguments],
            companions=companions,
            show_progress=is_first and sys.stderr.isatty(),
            say=say,
        )
        if not is_first:
            return 0
        metrics = find_metrics(config.trained.adapter)
        report = write_report(config.output_dir, metrics=metrics)
    print_headline(results)
    for line in comparison_lines(results):
        print(line)
    print(f"report: {report}")
    return 0


COMMAND = Command(
    words=("eval",),
    purpose="Measure, with controls, whether pictures obey graphs",
    example="sgflux eval --adapter runs/first/final --model-id tiny "
    "--data runs/world/test.jsonl --output-dir runs/first/evaluation",
    run=run,
)
