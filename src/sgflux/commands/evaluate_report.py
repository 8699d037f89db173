"""``sgflux eval report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sgflux.commands.command import Command
from sgflux.settings.flat import Flag, Input


@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """Flags of ``sgflux eval report``."""

    folder: Annotated[Path, Flag(is_input=True), tyro.conf.Positional]
    """Folder of an evaluation."""
    metrics: Input[Path | None] = None
    """File metrics.jsonl of the training, for its curves; by default the one beside the adapter."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Check that the figures follow from ``results.jsonl``, and write the report again."""
    flags = command.parse(ReportFlags, arguments)
    from sgflux.evaluation.report.aggregation import check_figures
    from sgflux.evaluation.report.data import find_metrics, read_evaluation
    from sgflux.evaluation.report.headline import print_headline
    from sgflux.evaluation.report.page import write_report

    with command.hold(flags.folder):
        evaluation = read_evaluation(flags.folder)
        figures = check_figures(evaluation)
        metrics = flags.metrics or find_metrics(evaluation.results["adapter"]["path"])
        report = write_report(flags.folder, metrics=metrics)
    print_headline(evaluation.results)
    print(f"{figures} figures follow from results.jsonl again")
    print(f"report: {report}")
    return 0


COMMAND = Command(
    words=("eval", "report"),
    purpose="Write an evaluation's report again, and check its figures against results.jsonl",
    example="sgflux eval report runs/first/evaluation",
    run=run,
)
