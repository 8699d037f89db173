"""What a report is made from: an evaluation's files, read back and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.judges.judge import NONE, Outcome, pair_of, predicate_of
from sgflux.evaluation.records import (
    AGAIN,
    NOT_COVERED,
    PICTURE_RESULTS,
    RESULTS,
    expect_unchanged,
)
from sgflux.evaluation.report.headline import Results
from sgflux.evaluation.report.line_shapes import (
    MetricsShape,
    PictureShape,
    ReadingShape,
    ScoreShape,
)
from sgflux.evaluation.report.shapes import ResultsShape
from sgflux.files.json_files import checked, iter_json_lines, read_json_bytes, typed
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.models.bundle_folder import is_bundled


@dataclass(frozen=True)
class Said:
    """The judge's verdict on one statement.

    Attributes:
        outcome: holds, contradicted or not found.
        relation: The relation that the judge names, or None if it names none.
        score: Likelihood that the judge gives the statement, or None.
        found: Whether the judge finds both objects.
    """

    outcome: Outcome
    relation: str | None
    score: float | None
    found: bool

    @property
    def holds(self) -> bool:
        """Whether the statement holds."""
        return self.outcome is Outcome.HOLDS

    @property
    def words(self) -> str:
        """The relation that the judge names, or its verdict if it names none."""
        if self.relation is None:
            return str(self.outcome)
        return "no relation" if self.relation == NONE else self.relation


@dataclass(frozen=True)
class Picture:
    """One line of ``results.jsonl``.

    Attributes:
        row: the test item's place.
        arm: the arm in which it was drawn.
        repeat: Number of the noise, from 0.
        seed: Seed of the noise, or None in results of earlier versions.
        path: the PNG.
        image_rel_path: the item's real picture, below the data set's image root.
        prompt: the text.
        graph: Graph that the adapter was given, or None.
        statements: Statements of the item.
        said: statement -> the judge's verdict; a statement that no judge covers is not in it.
        boxes: Label of an object that the judge found -> its box.
        pixels: SHA-256 of the pixels that were judged; None in results of earlier versions.
    """

    row: int
    arm: Arm
    repeat: int
    seed: int | None
    path: Path
    image_rel_path: str
    prompt: str
    graph: SceneGraph | None
    statements: tuple[Triple, ...]
    said: Mapping[Triple, Said]
    boxes: Mapping[str, Box]
    pixels: str | None

    @property
    def own(self) -> dict[Triple, Said]:
        """The verdicts on the item's statements."""
        return {triple: self.said[triple] for triple in self.statements if triple in self.said}

    @property
    def predicates(self) -> list[str]:
        """Canonical predicates of the item's statements."""
        return list(dict.fromkeys(map(predicate_of, self.statements)))


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's folder.

    Attributes:
        folder: Folder of the evaluation.
        results: ``evaluation_results.json``.
        pictures: Every line of ``results.jsonl``.
        items: row -> arm -> the item's picture with the first noise, rows in order.
        images_dir: root of the real pictures.
        training: the rows of the training's ``metrics.jsonl``; may be empty.
    """

    folder: Path
    results: Results
    pictures: Sequence[Picture]
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
    results = typed(content, dict, where=str(path), way_out=AGAIN)
    checked(results, ResultsShape, where=str(path), way_out=AGAIN)
    return results


def read_evaluation(folder: Path, *, metrics: Path | None = None) -> Evaluation:
    """Read the results of ``sgflux eval``, and a training's metrics if they are named.

    Raises:
        SgfluxError: if a file is missing or damaged; the message names it.
    """
    results = read_results(folder)
    classes = results["judge"].get("classes", [])
    pictures: list[Picture] = []
    items: dict[int, dict[Arm, Picture]] = {}
    path = folder / PICTURE_RESULTS
    expect_unchanged(path, results)
    for number, line in iter_json_lines(path, PictureShape, way_out=AGAIN):
        try:
            picture = _picture(line, folder, classes)
        except SgfluxError as error:
            raise SgfluxError(f"{path}:{number}: is damaged: {error}; {AGAIN}") from error
        pictures.append(picture)
        if picture.repeat == 0:
            items.setdefault(picture.row, {})[picture.arm] = picture
    settings = results["settings"]
    return Evaluation(
        folder=folder,
        results=results,
        pictures=pictures,
        items=dict(sorted(items.items())),
        images_dir=Path(settings.get("images_dir") or Path(results["data"]["path"]).parent),
        training=[] if metrics is None else read_metrics(metrics),
    )


def find_metrics(adapter: str | Path | None) -> Path | None:
    """The curves of an adapter's training, which a run keeps beside the adapter; None: none."""
    if adapter is None or is_bundled(adapter):
        return None
    path = Path(adapter).parent / "metrics.jsonl"
    return path if path.is_file() else None


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
    evidence = line.judge or ReadingShape()
    present = {name for part in evidence.parts for name in part.present or ()}
    if line.verdict is None or line.verdict.verdicts is None:
        stated = (*statements, *(graph.triples() if graph is not None else ()))
        said = _said_by_scores(evidence.scores, stated, present, classes)
    else:
        looked = any(part.present is not None for part in evidence.parts)
        said = {}
        for one in line.verdict.verdicts:
            if one.verdict != NOT_COVERED:
                triple, outcome = Triple(*one.statement), Outcome(one.verdict)
                found = (
                    present.issuperset(pair_of(triple))
                    if looked
                    else outcome is not Outcome.NOT_FOUND
                )
                said[triple] = Said(outcome, one.relation, one.score, found)
    return Picture(
        row=line.row,
        arm=line.arm,
        repeat=line.repeat,
        seed=line.seed,
        path=folder / line.path,
        image_rel_path=line.image_rel_path,
        prompt=line.prompt,
        graph=graph,
        statements=statements,
        said=said,
        boxes={
            label: Box(*one.box) for part in evidence.parts for label, one in part.boxes.items()
        },
        pixels=line.pixels_sha256,
    )


def _said_by_scores(
    scores: Iterable[ScoreShape],
    statements: Iterable[Triple],
    present: set[str],
    classes: Sequence[str],
) -> dict[Triple, Said]:
    """The verdicts on a picture in a file of an earlier version, which has scores alone."""
    of_pair = {}
    for score in scores:
        values = score.log_probabilities
        if len(values) != len(classes):
            raise SgfluxError(f"{len(values)} log_probabilities for {len(classes)} classes")
        of_pair[score.subject, score.object] = dict(zip(classes, values, strict=True))
    said = {}
    for triple in statements:
        if (own := of_pair.get(pair_of(triple))) is not None:
            relation, stated = max(own, key=lambda name: own[name]), predicate_of(triple)
            found = present.issuperset(pair_of(triple))
            outcome = Outcome.CONTRADICTED if found else Outcome.NOT_FOUND
            if relation == stated:
                outcome = Outcome.HOLDS
            said[triple] = Said(outcome, relation, own.get(stated), found)
    return said
