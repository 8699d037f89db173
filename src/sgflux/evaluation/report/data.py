"""What a report is made from: an evaluation's files, read back and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.evaluator import PICTURE_RESULTS, RESULTS
from sgflux.evaluation.judges.judge import Outcome, pair_of, predicate_of
from sgflux.evaluation.records import NOT_COVERED
from sgflux.evaluation.report.headline import Results
from sgflux.evaluation.report.shapes import MetricsShape, PictureShape, ResultsShape
from sgflux.files.json_files import checked, iter_json_lines, read_json_bytes, typed
from sgflux.graphs.scene_graph import SceneGraph, Triple

_AGAIN = "run the same 'sgflux eval' again, which keeps the pictures that are there"


@dataclass(frozen=True)
class Said:
    """The judge's verdict on one statement.

    Attributes:
        holds: whether the statement holds in the picture.
        words: the relation that the judge names, or its verdict if it names none.
    """

    holds: bool
    words: str


@dataclass(frozen=True)
class Picture:
    """One line of ``results.jsonl``.

    Attributes:
        row: the test item's place.
        arm: the arm in which it was drawn.
        path: the PNG.
        image_rel_path: the item's real picture, below the data set's image root.
        prompt: the text.
        graph: Graph that the adapter was given, or None.
        statements: Statements of the item.
        said: statement -> the judge's verdict; a statement that no judge covers is not in it.
        pixels: SHA-256 of the pixels that were judged; None in results of earlier versions.
    """

    row: int
    arm: Arm
    path: Path
    image_rel_path: str
    prompt: str
    graph: SceneGraph | None
    statements: tuple[Triple, ...]
    said: Mapping[Triple, Said]
    pixels: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's folder.

    Attributes:
        folder: Folder of the evaluation.
        results: ``evaluation_results.json``.
        items: row -> arm -> the item's picture with the first noise, rows in order.
        images_dir: root of the real pictures.
        training: the rows of the training's ``metrics.jsonl``; may be empty.
    """

    folder: Path
    results: Results
    items: Mapping[int, Mapping[Arm, Picture]]
    images_dir: Path
    training: Sequence[Mapping[str, Any]]


def read_results(folder: Path) -> dict[str, Any]:
    """The content of ``evaluation_results.json``, its types checked.

    Raises:
        SgfluxError: if it is missing or damaged; the message names the file and the key.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise SgfluxError(f"{path} is not there: run 'sgflux eval' first")
    content = read_json_bytes(path)
    results = typed(content, dict, where=str(path), way_out=_AGAIN)
    checked(results, ResultsShape, where=str(path), way_out=_AGAIN)
    return results


def read_evaluation(folder: Path, *, metrics: Path | None = None) -> Evaluation:
    """Read the results of ``sgflux eval``, and a training's metrics if they are named.

    Raises:
        SgfluxError: if a file is missing or damaged; the message names it.
    """
    results = read_results(folder)
    classes = results["judge"].get("classes", [])
    items: dict[int, dict[Arm, Picture]] = {}
    path = folder / PICTURE_RESULTS
    for number, line in iter_json_lines(path, PictureShape, way_out=_AGAIN):
        if line.repeat == 0:
            try:
                picture = _picture(line, folder, classes)
            except SgfluxError as error:
                raise SgfluxError(f"{path}:{number}: is damaged: {error}; {_AGAIN}") from error
            items.setdefault(picture.row, {})[picture.arm] = picture
    settings = results["settings"]
    return Evaluation(
        folder=folder,
        results=results,
        items=dict(sorted(items.items())),
        images_dir=Path(settings.get("images_dir") or Path(results["data"]["path"]).parent),
        training=[] if metrics is None else read_metrics(metrics),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a training's ``metrics.jsonl``; a last one that a kill cut off is no row.

    Raises:
        SgfluxError: naming file and line, if a row is damaged.
    """
    way_out = "give the metrics.jsonl of a training"
    rows = []
    for number, row in iter_json_lines(path, dict, way_out=way_out, may_be_cut=True):
        checked(row, MetricsShape, where=f"{path}:{number}", way_out=way_out)
        rows.append(row)
    return rows


def _picture(line: PictureShape, folder: Path, classes: Sequence[str]) -> Picture:
    graph = None if line.graph is None else SceneGraph.from_json(line.graph)
    if line.arm.has_graph and (graph is None or graph.is_null):
        raise SgfluxError(f"a picture of the arm {line.arm} without a graph")
    if Path(line.path).is_absolute() or ".." in Path(line.path).parts:
        raise SgfluxError(f"path {line.path!r} leads out of the evaluation's folder")
    statements = tuple(Triple(*words) for words in line.statements)
    if line.verdict is not None and line.verdict.verdicts is not None:
        said = {
            Triple(*one.statement): Said(
                one.verdict == Outcome.HOLDS, one.verdict if one.relation is None else one.relation
            )
            for one in line.verdict.verdicts
            if one.verdict != NOT_COVERED
        }
    else:
        stated = (*statements, *(graph.triples() if graph is not None else ()))
        said = _said_by_scores(line, stated, classes)
    return Picture(
        row=line.row,
        arm=line.arm,
        path=folder / line.path,
        image_rel_path=line.image_rel_path,
        prompt=line.prompt,
        graph=graph,
        statements=statements,
        said=said,
        pixels=line.pixels_sha256,
    )


def _said_by_scores(
    line: PictureShape, statements: Iterable[Triple], classes: Sequence[str]
) -> dict[Triple, Said]:
    """The verdicts on a picture in a file of an earlier version, which has scores alone."""
    reads = {}
    for score in () if line.judge is None else line.judge.scores:
        values = score.log_probabilities
        if len(values) != len(classes):
            raise SgfluxError(f"{len(values)} log_probabilities for {len(classes)} classes")
        reads[score.subject, score.object] = classes[values.index(max(values))]
    return {
        triple: Said(reads[pair] == predicate_of(triple), reads[pair])
        for triple in statements
        if (pair := pair_of(triple)) in reads
    }
