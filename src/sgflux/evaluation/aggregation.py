"""Figures that are made again from ``results.jsonl``, without a model, a judge or the data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgflux.evaluation.drawing import PICTURES
from sgflux.evaluation.records import PICTURE_RESULTS, read_lines
from sgflux.evaluation.report.data import read_results
from sgflux.evaluation.scoring import coverage, summary


def aggregate(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Make the figures of an evaluation's pictures again.

    What takes a network stays as it is on record: the judge's accuracy, the ranking accuracy, LPIPS
    and distances of quality; and, where the pictures are not in the folder, how far they move.

    Returns:
        The results with these figures in place of those on record, and the figures that differ
        from the record, in words.

    Raises:
        SgfluxError: if a file is missing, damaged, or changed since the evaluation.
    """
    results = read_results(folder)
    judged = read_lines(folder / PICTURE_RESULTS, results)
    drawn = folder if (folder / PICTURES).is_dir() else None
    figures = summary(
        judged,
        out_dir=drawn,
        judge=results["judge"]["name"],
        correction=results.get("correction"),
    )
    moved = "graph_sensitivity"
    if moved in figures:
        figures[moved] = {**results.get(moved, {}), **figures[moved]}
    if "coverage" in results["judge"]:
        figures["judge"] = {**results["judge"], "coverage": coverage(figures["arms"])}
    figures = json.loads(json.dumps(figures))
    changed = [
        line
        for name, found in figures.items()
        for line in differing(name, found, results.get(name))
        if name in results or name != "graph_kinds"  # which earlier versions did not write
    ]
    return {**results, **figures}, changed


def differing(place: str, found: Any, recorded: Any) -> Iterator[str]:
    """Yield what differs; figures of another machine may differ in their last digits.

    Args:
        place: Keys that lead to the values, with dots between them.
        found: Plain JSON that was made again.
        recorded: Plain JSON on record.
    """
    if isinstance(found, dict) and isinstance(recorded, dict):
        for key in {**found, **recorded}:
            yield from differing(f"{place}.{key}", found.get(key), recorded.get(key))
    elif isinstance(found, list) and isinstance(recorded, list) and len(found) == len(recorded):
        for number, pair in enumerate(zip(found, recorded, strict=True)):
            yield from differing(f"{place}.{number}", *pair)
    elif isinstance(found, float) and isinstance(recorded, float):
        if not math.isclose(found, recorded, rel_tol=1e-6, abs_tol=1e-9):
            yield f"{place} is {recorded!r} on record, but {PICTURE_RESULTS} gives {found!r}"
    elif found != recorded:
        yield f"{place} is {recorded!r} on record, but {PICTURE_RESULTS} gives {found!r}"
