"""What an evaluation says of each picture, one JSON line, and of its judge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgflux.evaluation.arms import statements_about
from sgflux.evaluation.drawing import JudgedPicture
from sgflux.evaluation.judges.judge import Reading
from sgflux.evaluation.known.table import doubtful, summary_line
from sgflux.evaluation.scoring import Judged, item_triples
from sgflux.files.writing import replacing
from sgflux.graphs.scene_graph import Triple

NOT_COVERED = "not covered"
"""Stands in place of a verdict where no judge covers the predicate."""


def write_lines(path: Path, judged: Judged) -> None:
    """Write one JSON line a picture, all of them or nothing."""
    with replacing(path) as file:
        for pictures in judged.values():
            for picture in pictures:
                line = json.dumps(_line(picture), ensure_ascii=False, allow_nan=False)
                file.write(line.encode() + b"\n")


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
                None if reading.present is None else reading.has_all(item.graph.objects)
            ),
            "verdicts": [_verdict(reading, triple) for triple in statements_about(request)],
        }
        line["judge"] = dict(reading.evidence)
    return line


def _verdict(reading: Reading, triple: Triple) -> dict[str, Any]:
    """Return the verdict on any statement by which the picture was verified."""
    verdict = reading.verdicts.get(triple)
    return {
        "statement": [triple.subject, triple.predicate, triple.object],
        "verdict": NOT_COVERED if verdict is None else str(verdict.outcome),
        "relation": None if verdict is None else verdict.relation,
        "score": None if verdict is None or verdict.score is None else round(verdict.score, 4),
    }


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
