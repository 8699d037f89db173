"""What a report is made from: an evaluation's files, read back and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.evaluator import PICTURE_RESULTS, RESULTS
from sgflux.evaluation.headline import Results
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple


@dataclass(frozen=True)
class Picture:
    """One line of ``results.jsonl``.

    Attributes:
        row: the test item's place.
        arm: in which it was drawn.
        path: of the PNG.
        image_rel_path: the item's real picture, below the data set's image root.
        prompt: the text.
        graph: what the adapter was told, or None.
        statements: what the item states.
        reads: (subject, object) in lower case -> the relation that the judge reads; empty without
            a judge.
    """

    row: int
    arm: Arm
    path: Path
    image_rel_path: str
    prompt: str
    graph: SceneGraph | None
    statements: tuple[Triple, ...]
    reads: Mapping[tuple[str, str], str]

    def read(self, triple: Triple) -> str | None:
        """The relation that the judge reads from the triple's subject to its object."""
        return self.reads.get((triple.subject.casefold(), triple.object.casefold()))

    def shows(self, triple: Triple) -> bool | None:
        """Whether that is the triple's own; None without a judge."""
        read = self.read(triple)
        return None if read is None else read == DEFAULT_VOCABULARY.normalize(triple.predicate)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's folder.

    Attributes:
        folder: where it is.
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


def read_evaluation(folder: Path, *, metrics: Path | None = None) -> Evaluation:
    """Read the results of ``sgflux eval``, and a training's metrics if they are named.

    Raises:
        SgfluxError: if a file is missing or damaged; the message names it.
    """
    path = folder / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SgfluxError(f"{path} is not there: run 'sgflux eval' first") from None
    except json.JSONDecodeError as error:
        raise SgfluxError(f"{path}: not JSON: {error}") from error
    classes = (results.get("judge") or {}).get("classes", [])
    items: dict[int, dict[Arm, Picture]] = {}
    for line in read_json_lines(folder / PICTURE_RESULTS):
        if line["repeat"] == 0:
            picture = _picture(line, folder, classes)
            items.setdefault(picture.row, {})[picture.arm] = picture
    settings = results["settings"]
    return Evaluation(
        folder=folder,
        results=results,
        items=dict(sorted(items.items())),
        images_dir=Path(settings.get("images_dir") or Path(results["data"]["path"]).parent),
        training=[] if metrics is None else read_json_lines(metrics),
    )


def _picture(line: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> Picture:
    reads = {}
    for score in (line["judge"] or {}).get("scores", []):
        values = score["log_probabilities"]
        reads[score["subject"], score["object"]] = classes[values.index(max(values))]
    return Picture(
        row=line["row"],
        arm=Arm(line["arm"]),
        path=folder / line["path"],
        image_rel_path=line["image_rel_path"],
        prompt=line["prompt"],
        graph=None if line["graph"] is None else SceneGraph.from_json(line["graph"]),
        statements=tuple(Triple(*words) for words in line["statements"]),
        reads=reads,
    )


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
        SgfluxError: naming file and line, if one is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SgfluxError(f"{path} is not there") from None
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SgfluxError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SgfluxError(f"{path}:{number}: expected an object, got {line[:60]!r}")
        rows.append(row)
    return rows
