"""Finished evaluations: their report, and the rows that were drawn with their own graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from sgflux.errors import SgfluxError
from sgflux.files.json_files import iter_json_lines
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError

# As sgflux.evaluation has them; its modules import torch, for which the page does not wait.
RESULTS_FILE, LINES_FILE, REPORT_FILE = "evaluation_results.json", "results.jsonl", "report.html"


class _Verdict(Struct):
    all_right: bool | None = None


class _Line(Struct):
    row: int
    arm: str
    repeat: int
    seed: int
    graph: dict[str, Any] | None
    verdict: _Verdict | None = None


@dataclass(frozen=True)
class EvaluatedRow:
    """A row of an evaluation as it was drawn with its own graph.

    Attributes:
        row: Place in the test file, from 0.
        graph: Graph of the row.
        seed: Seed of the noise.
        is_right: Whether the judge found every statement; None: nobody judged.
    """

    row: int
    graph: SceneGraph
    seed: int
    is_right: bool | None


def read_rows(folder: Path) -> list[EvaluatedRow]:
    """Return the rows of an evaluation, each with its first noise.

    Raises:
        SgfluxError: if the folder holds no evaluation, or its lines are damaged.
    """
    if not (folder / RESULTS_FILE).is_file():
        raise SgfluxError(
            f"{folder} is no evaluation: it has no {RESULTS_FILE}; give the --output-dir of "
            "'sgflux eval'"
        )
    rows = []
    way_out = "run 'sgflux eval' again"
    path = folder / LINES_FILE
    for number, line in iter_json_lines(path, _Line, way_out=way_out):
        if line.arm == "graph" and line.repeat == 0 and line.graph is not None:
            try:
                graph = SceneGraph.from_json(line.graph)
            except SceneGraphError as error:
                raise SgfluxError(f"{path}:{number}: is damaged: {error}; {way_out}") from error
            is_right = None if line.verdict is None else line.verdict.all_right
            rows.append(EvaluatedRow(line.row, graph, line.seed, is_right))
    return rows
