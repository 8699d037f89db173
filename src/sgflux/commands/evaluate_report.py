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
    from sgflux.errors import SgfluxError
    from sgflux.evaluation.aggregation import aggregate
    from sgflux.evaluation.records import RESULTS
    from sgflux.evaluation.report.data import find_metrics, read_results
    from sgflux.evaluation.report.headline import print_headline
    from sgflux.evaluation.report.page import write_report

    with command.hold(flags.folder):
        results = read_results(flags.folder)
        checked = "the results are of an earlier version: that they follow from results.jsonl "
        checked += "cannot be checked"
        if results.get("picture_results") is not None:
            _, changed = aggregate(flags.folder)
            if changed:
                raise SgfluxError(
                    f"{flags.folder / RESULTS}: {changed[0]}: the two files are of different runs, "
                    "or one was changed; run the same 'sgflux eval' again"
                )
            checked = "every figure of the pictures follows from results.jsonl again"
        metrics = flags.metrics or find_metrics(results["adapter"]["path"])
        report = write_report(flags.folder, metrics=metrics)
    print_headline(results)
    print(checked)
    print(f"report: {report}")
    return 0


COMMAND = Command(
    words=("eval", "report"),
    purpose="Write an evaluation's report again, and check its figures against results.jsonl",
    example="sgflux eval report runs/first/evaluation",
    run=run,
)
