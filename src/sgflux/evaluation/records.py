"""What an evaluation says of each picture, one JSON line, and of its judge.

The lines hold all from which the figures come: :func:`read_lines` is the way back.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import (
    Arm,
    EvaluationItem,
    PictureRequest,
    stated_in_text,
    statements_about,
)
from sgflux.evaluation.correction import FALSE_POSITIVES
from sgflux.evaluation.drawing import JudgedPicture
from sgflux.evaluation.judges.judge import Outcome, Reading, Verdict
from sgflux.evaluation.known.table import doubtful, summary_line
from sgflux.evaluation.scoring import Judged, item_triples
from sgflux.files.json_files import iter_json_lines
from sgflux.files.reading import naming_unreadable
from sgflux.files.writing import replacing
from sgflux.graphs.negatives import Negative, NegativeKind
from sgflux.graphs.scene_graph import SceneGraph, Triple

RESULTS, PICTURE_RESULTS = "evaluation_results.json", "results.jsonl"
"""Files of an evaluation's folder: its figures, and one line for each picture."""
NOT_COVERED = "not covered"
"""Stands in place of a verdict where no judge covers the predicate."""
AGAIN = "run the same 'sgflux eval' again, which keeps the pictures that are there"
"""Advice on files of an evaluation that are missing or damaged."""


def write_lines(path: Path, judged: Judged) -> dict[str, Any]:
    """Write one JSON line a picture, all of them or nothing.

    Returns:
        The number of lines and the file's SHA-256, by which :func:`expect_unchanged` knows it.
    """
    count, digest = 0, hashlib.sha256()
    with replacing(path) as file:
        for pictures in judged.values():
            for picture in pictures:
                text = json.dumps(_line(picture), ensure_ascii=False, allow_nan=False)
                line = text.encode() + b"\n"
                file.write(line)
                digest.update(line)
                count += 1
    return {"lines": count, "sha256": digest.hexdigest()}


def expect_unchanged(path: Path, results: Mapping[str, Any]) -> None:
    """Check that the lines are those from which the figures were made.

    Args:
        path: Path of ``results.jsonl``.
        results: ``evaluation_results.json``; one of an earlier version does not tell.

    Raises:
        SgfluxError: naming the file, if it is missing, was cut, or was changed.
    """
    record = results.get("picture_results")
    if record is None:
        return
    if not path.exists():
        raise SgfluxError(f"{path} is not there; {AGAIN}")
    with naming_unreadable(path), path.open("rb") as file:
        content_digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        count = sum(1 for _ in file)
    if content_digest == record["sha256"]:
        return
    if count < record["lines"]:
        raise SgfluxError(
            f"{path}: is cut: it has {count} lines, and the figures are of {record['lines']}; "
            f"{AGAIN}"
        )
    raise SgfluxError(
        f"{path}: was changed after the evaluation: its SHA-256 is not the one in the results, so "
        f"the figures do not follow from it; {AGAIN}"
    )


def _line(picture: JudgedPicture) -> dict[str, Any]:
    request, reading = picture.request, picture.reading
    item = request.item
    statements = item_triples(request)
    line: dict[str, Any] = {
        "row": item.row,
        "image_rel_path": item.example.image_rel_path,
        "held_out_combination": item.held_out,
        "arm": str(request.arm),
        "repeat": request.repeat,
        "seed": request.seed,
        "path": picture.path,
        "pixels_sha256": picture.pixels,
        "prompt": request.prompt,
        "graph": None if request.graph is None else request.graph.to_json(),
        "statements": [[t.subject, t.predicate, t.object] for t in statements],
        "negative": None,
        "verdict": None,
        "judge": None,
    }
    if item.negative is not None:
        line["negative"] = {
            "kind": str(item.negative.kind),
            "description": item.negative.description,
        }
    if reading is not None:
        said = [reading.verdicts.get(triple) for triple in statements]
        right = [None if verdict is None else verdict.holds for verdict in said]
        line["verdict"] = {
            "read": [None if verdict is None else verdict.relation for verdict in said],
            "right": right,
            "all_right": None if None in right else all(right),
            "objects_right": (
                None if reading.present is None else reading.has_all(item.graph.labels())
            ),
            "verdicts": [_verdict(reading, triple) for triple in statements_about(request)],
        }
        line["judge"] = dict(reading.evidence)
    line["source"] = _source(picture)
    if item.held_out_shape is not None:
        line["held_out_shape"] = item.held_out_shape
    return line


def _source(picture: JudgedPicture) -> dict[str, Any]:
    """Return what else the figures come from, which the line does not say exactly."""
    item, reading = picture.request.item, picture.reading
    stated = item.example.triple
    source: dict[str, Any] = {
        "triple": [stated.subject, stated.predicate, stated.object],
        "graph": item.graph.to_json(),
        "swapped": _negative(item.swapped),
        "replaced": _negative(item.replaced),
        "scores": None,
        "present": None,
    }
    if reading is not None:
        verdicts = [reading.verdicts.get(triple) for triple in statements_about(picture.request)]
        source["scores"] = [None if verdict is None else verdict.score for verdict in verdicts]
        source["present"] = None if reading.present is None else sorted(reading.present)
    return source


def _negative(negative: Negative | None) -> dict[str, Any] | None:
    return None if negative is None else {**vars(negative), "graph": negative.graph.to_json()}


def _verdict(reading: Reading, triple: Triple) -> dict[str, Any]:
    """Return the verdict on any statement by which the picture was verified."""
    verdict = reading.verdicts.get(triple)
    return {
        "statement": [triple.subject, triple.predicate, triple.object],
        "verdict": NOT_COVERED if verdict is None else str(verdict.outcome),
        "relation": None if verdict is None else verdict.relation,
        "score": None if verdict is None or verdict.score is None else round(verdict.score, 4),
    }


# --- the way back -------------------------------------------------------------------------------


class _NegativeLine(Struct):
    graph: dict[str, Any]
    kind: NegativeKind
    index: int
    description: str

    def negative(self) -> Negative:
        return Negative(SceneGraph.from_json(self.graph), self.kind, self.index, self.description)


class _SourceLine(Struct):
    triple: tuple[str, str, str]
    graph: dict[str, Any]
    swapped: _NegativeLine | None
    replaced: _NegativeLine | None
    scores: list[float | None] | None
    present: list[str] | None


class _StatementLine(Struct):
    statement: tuple[str, str, str]
    verdict: str
    relation: str | None


class _VerdictLine(Struct):
    verdicts: list[_StatementLine]


class _Line(Struct):
    row: int
    image_rel_path: str
    held_out_combination: bool | None
    arm: Arm
    repeat: int
    seed: int
    path: str
    pixels_sha256: str | None
    prompt: str
    graph: dict[str, Any] | None
    verdict: _VerdictLine | None
    judge: dict[str, Any] | None
    source: _SourceLine
    held_out_shape: bool | None = None

    def picture(self) -> JudgedPicture:
        """Return the picture as it was when the line was written."""
        source = self.source
        meta: dict[str, Any] = {"image_rel_path": self.image_rel_path}
        for name in ("held_out_combination", "held_out_shape"):
            if (flag := getattr(self, name)) is not None:
                meta[name] = flag
        item = EvaluationItem(
            row=self.row,
            example=SceneExample(
                prompt=self.prompt,
                concepts=source.triple,
                triple=Triple(*source.triple),
                graph=SceneGraph.from_json(source.graph),
                meta=meta,
            ),
            swapped=None if source.swapped is None else source.swapped.negative(),
            replaced=None if source.replaced is None else source.replaced.negative(),
            shuffled=None,
        )
        request = PictureRequest(
            item=item,
            arm=self.arm,
            repeat=self.repeat,
            seed=self.seed,
            graph=None if self.graph is None else SceneGraph.from_json(self.graph),
            text=stated_in_text(item, self.arm),
            prompt=self.prompt,
            use_adapter=self.arm.uses_adapter,
        )
        return JudgedPicture(request, self.path, self._reading(), self.pixels_sha256)

    def _reading(self) -> Reading | None:
        if self.verdict is None or self.source.scores is None:
            return None
        scored = zip(self.verdict.verdicts, self.source.scores, strict=True)
        return Reading(
            verdicts={
                Triple(*one.statement): Verdict(Outcome(one.verdict), one.relation, score)
                for one, score in scored
                if one.verdict != NOT_COVERED
            },
            present=None if self.source.present is None else frozenset(self.source.present),
            evidence=self.judge or {},
        )


def read_lines(path: Path, results: Mapping[str, Any]) -> dict[Arm, list[JudgedPicture]]:
    """Read back what :func:`write_lines` wrote, as far as figures come from it.

    Args:
        path: Path of ``results.jsonl``.
        results: ``evaluation_results.json``.

    Raises:
        SgfluxError: naming the file, and the line where one is damaged, as
            :func:`expect_unchanged`; or if an earlier version wrote it.
    """
    if results.get("picture_results") is None:
        raise SgfluxError(f"{path}: was written by an earlier version of sgflux; {AGAIN}")
    expect_unchanged(path, results)
    judged: dict[Arm, list[JudgedPicture]] = defaultdict(list)
    for number, line in iter_json_lines(path, _Line, way_out=AGAIN):
        try:
            judged[line.arm].append(line.picture())
        except (SgfluxError, ValueError) as error:
            raise SgfluxError(f"{path}:{number}: is damaged: {error}; {AGAIN}") from error
    return dict(judged)


# --- lines for the user -------------------------------------------------------------------------


def judge_line(figures: dict[str, Any]) -> str:
    """Return how good the judge is, in words."""
    if figures["accuracy"] is None:
        return str(figures["note"])
    false = ", ".join(
        f"{kind} {_shown(figure)}" for kind, figure in figures["false_acceptance"].items()
    )
    return (
        f"judge {figures['name']!r} on {figures['calibrated_on']}: relation "
        f"{_shown(figures, 'accuracy')}, objects {_shown(figures['objects_right'])}; names a "
        f"relation that is not there: {false}"
    )


def calibration_lines(calibration: Mapping[str, Any] | None) -> list[str]:
    """Say how good the judge was on known pictures, and where it is not trusted."""
    if calibration is None:
        return []
    lines = [summary_line(calibration)]
    if marked := doubtful(calibration):
        listed = "; ".join(f"{name} ({why})" for name, why in marked.items())
        lines.append(
            "About these predicates the judge is not shown to be better than the majority answer, "
            f"so that their figures say little: {listed}."
        )
    return lines


def correction_lines(correction: Mapping[str, Any] | None) -> list[str]:
    """Say about which predicates the judge's errors are corrected, and about which not, and why."""
    if correction is None:
        return []
    lines = []
    if rates := correction["rates"]:
        kinds = {own["false_positives"]["of"] for own in rates.values()}
        counted = " or ".join(what for kind, what in FALSE_POSITIVES.items() if kind in kinds)
        lines.append(
            f"Corrected for the errors of the judge are figures of {', '.join(rates)}. Its false "
            f"positives are the {counted} that it accepts. Corrected are statements on which the "
            "judge does not say 'not found'; another item's graph brings other objects, and that "
            "arm is not corrected."
        )
    if impossible := correction["impossible"]:
        listed = "; ".join(f"{name} ({why})" for name, why in impossible.items())
        lines.append(f"No correction is possible for {listed}.")
    return lines


def comparison_lines(results: Mapping[str, Any]) -> list[str]:
    """Return one line on each arm that the arm with the true graph was compared with."""
    return [
        f"graph minus {name}: {comparison_words(entry)}"
        for name, entry in (results.get("comparisons") or {}).items()
    ]


def comparison_words(entry: Mapping[str, Any]) -> str:
    """Return a paired comparison in words; the arms are named before it."""
    low, high = entry["ci95"]
    smallest = entry["smallest_detectable_difference"]
    detectable = (
        "" if smallest is None else f"; {100 * smallest:.1f} points are detected with 80 % power"
    )
    return (
        f"{100 * entry['difference']:+.1f} points [{100 * low:.1f}, {100 * high:.1f}], sign test "
        f"p = {entry['p_sign']:.2g} (Holm {entry['p_holm']:.2g}), {entry['n_discordant']} of "
        f"{entry['clusters']} images differ, n = {entry['n']}{detectable}"
    )


def coverage_line(figures: Mapping[str, Any]) -> str | None:
    """Return which statements the judge does not cover; None if it covers all."""
    counts = figures.get("not_covered")
    if not counts:
        return None
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in counts.items())
    return (
        f"The judge {figures['name']!r} does not cover these predicates of the test set (number of "
        f"statements): {listed}. Such statements are in no figure."
    )


def _shown(figure: dict[str, Any], key: str = "value") -> str:
    value, ci95 = figure[key], figure["ci95"]
    if value is None:
        return "not measured"
    interval = "" if ci95 is None else f" [{ci95[0]:.1%}, {ci95[1]:.1%}]"
    return f"{value:.1%}{interval}, n = {figure['n']}"
