"""What an evaluation says of each picture, one JSON line, and of its judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgflux.evaluation.drawing import JudgedPicture
from sgflux.evaluation.scoring import Judged, item_triples
from sgflux.files.writing import replacing


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
        line["verdict"] = {
            "read": [reading.relation(triple) for triple in statements],
            "right": [reading.is_right(triple) for triple in statements],
            "all_right": all(reading.is_right(triple) for triple in statements),
            "objects_right": reading.has_all(item.graph.objects),
        }
        line["judge"] = reading.to_json()
    return line


def judge_line(figures: dict[str, Any]) -> str:
    """How good the judge is, in words."""
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


def _shown(figure: dict[str, Any], key: str = "value") -> str:
    value, ci95 = figure[key], figure["ci95"]
    if value is None:
        return "not measured"
    interval = "" if ci95 is None else f" [{ci95[0]:.1%}, {ci95[1]:.1%}]"
    return f"{value:.1%}{interval}, n = {figure['n']}"
