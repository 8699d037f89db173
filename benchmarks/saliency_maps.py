"""Measure whether saliency maps lie where the objects are, on pictures whose boxes are known.

    python benchmarks/saliency_maps.py --adapter tiny
    python benchmarks/saliency_maps.py --table benchmarks/results/saliency_maps.json

Both kinds of maps of ``sgflux saliency`` are made of test pictures of a world that nothing else
uses. Of each map it counts how often a place in the own box is brighter than a place outside (area
under the ROC curve: 50 % is chance), and how often its brightest place is in that box (pointing
game). The control is the same map and the box of the statement's other object; a predicate's own
place is that of both its objects, and its control that of all others in the graph.

Writes ``benchmarks/results/saliency_maps.json``, or ``--out``, and prints its table, as the second
command does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hard_graphs import cell, given_command, make_world, without_folders
from measuring import ROOT, machine
from result_files import write_json

from sgflux.data.boxes import Box
from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.images import fit_image, load_image
from sgflux.data.prompts import prompts_for_graph
from sgflux.evaluation.metrics import Row, mean_estimate
from sgflux.models.block_range import default_concept_blocks
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.difference_maps import difference_maps
from sgflux.sampling.saliency_maps import attention_maps

WORLD: Mapping[str, Any] = {
    "triples": "1,2,3,4",
    "twins": 0.3,
    "seed": 20261221,
    "train_per_class": 0,
    "val_per_class": 0,
    "test_per_class": 4,
}
METHODS = ("difference", "attention")
WAYS: Mapping[str, tuple[bool, bool]] = {
    "base": (False, False),
    "adapter, no graph": (True, False),
    "adapter, graph": (True, True),
}
"""Name -> whether there is an adapter, and whether it is given the graph."""

COLUMNS: Mapping[str, str] = {
    "object": "objects: own box",
    "object_control": "control: the other object",
    "pointing": "pointing game",
    "pointing_control": "control: the other object",
    "predicate": "predicates: both objects",
    "predicate_control": "control: all others",
}
"""Figure -> heading of its column."""


def inside(boxes: list[Box | None], side: int, size: float) -> np.ndarray:
    """Return which of side x side places have their middle in one of the boxes, (side, side) bool.

    Args:
        boxes: Boxes in pixels.
        side: Number of places along each side.
        size: Side of the picture in pixels.
    """
    at = (np.arange(side) + 0.5) / side * size
    found = np.zeros((side, side), bool)
    for box in boxes:
        if box is not None:
            across = (at >= box.left) & (at <= box.left + box.width)
            down = (at >= box.top) & (at <= box.top + box.height)
            found |= down[:, None] & across
    return found


def area_under_curve(heat: np.ndarray, place: np.ndarray) -> float | None:
    """Return how often a place inside is brighter than one outside; None: one of them is empty."""
    own, rest = heat[place][:, None], heat[~place]
    if not own.size or not rest.size:
        return None
    return float((own > rest).mean() + 0.5 * (own == rest).mean())


def figures_of(maps: np.ndarray, example: SceneExample, size: float) -> list[tuple[str, float]]:
    """Return the observations of one picture: name of a figure and its value.

    Args:
        maps: Maps of subject, predicate and object of each statement, (T, 3, h, w).
        example: Row of the picture.
        size: Side of the picture in pixels.
    """
    side, boxes = maps.shape[-1], list(example.boxes)
    found: list[tuple[str, float | None]] = []
    for (subject, _, object_), own in zip(example.graph.relationships, maps, strict=True):
        for part, index, other in ((0, subject, object_), (2, object_, subject)):
            for control, place in (("", index), ("_control", other)):
                where = inside([boxes[place]], side, size)
                found.append((f"object{control}", area_under_curve(own[part], where)))
                brightest = float(where.flat[own[part].argmax()])
                found.append((f"pointing{control}", brightest if where.any() else None))
        rest = [box for place, box in enumerate(boxes) if place not in (subject, object_)]
        for name, places in (
            ("predicate", [boxes[subject], boxes[object_]]),
            ("predicate_control", rest),
        ):
            found.append((name, area_under_curve(own[1], inside(places, side, size))))
    return [(name, value) for name, value in found if value is not None]


def measure(adapter: str, data: Path, *, sigma: float) -> dict[str, Any]:
    """Make all maps of all pictures.

    Args:
        adapter: Bundle of the adapter.
        data: JSONL file of the rows, beside its pictures.
        sigma: Noise level of the maps.

    Returns:
        Method -> way -> figure -> mean and interval over pictures.
    """
    examples = read_examples(data)
    found: dict[str, Any] = {method: {} for method in METHODS}
    for way, (has_adapter, use_graph) in WAYS.items():
        pipeline = SceneGraphFluxPipeline.from_pretrained(
            "tiny", adapter=adapter if has_adapter else None
        )
        side = pipeline.default_size
        blocks = default_concept_blocks(pipeline.network.num_layers)
        rows: dict[str, dict[str, list[Row]]] = {
            method: {name: [] for name in COLUMNS} for method in METHODS
        }
        for number, example in enumerate(examples):
            pixels = fit_image(load_image(data.parent / example.image_rel_path), side, side)
            told: dict[str, Any] = {
                "prompt": prompts_for_graph(example.graph, "neutral"),
                "use_graph": use_graph,
                "sigma": sigma,
                "seed": number,
            }
            for method in METHODS:
                if method == "difference":
                    maps = difference_maps(pipeline, pixels, example.graph, **told)
                else:
                    maps = attention_maps(pipeline, pixels, example.graph, blocks=blocks, **told)
                for name, value in figures_of(maps.numpy(), example, side):
                    rows[method][name].append((value, "all", str(number)))
        for method in METHODS:
            found[method][way] = {
                name: mean_estimate(own).to_json() for name, own in rows[method].items()
            }
        print(f"{way}: {len(examples)} pictures", flush=True)
    return found


def as_markdown(record: Mapping[str, Any]) -> str:
    """A table: a line a method and a way, a column a figure."""
    lines = [
        f"| maps | model | {' | '.join(COLUMNS.values())} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for method, ways in record["maps"].items():
        for way, figures in ways.items():
            cells = [cell(figures[name]) for name in COLUMNS]
            lines.append(f"| {method} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print, or print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--adapter", default="tiny", help="Folder of the adapter, or 'tiny'.")
    add("--folder", type=Path, default=Path("runs/saliency_maps"), help="Folder of the test world.")
    add("--sigma", type=float, default=0.5, help="Noise level at which the model sees a picture.")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "saliency_maps.json")
    add("--table", type=Path, metavar="JSON", help="Print the table of a finished measurement.")
    given = parser.parse_args()
    if given.table is not None:
        print(as_markdown(json.loads(given.table.read_text(encoding="utf-8"))))
        return
    make_world(given.folder / "world", WORLD)
    record = {
        "command": given_command("saliency_maps.py"),
        **machine(),
        "adapter": without_folders(given.adapter),
        "sigma": given.sigma,
        "world": dict(WORLD),
        "maps": measure(given.adapter, given.folder / "world" / "test.jsonl", sigma=given.sigma),
    }
    write_json(given.out, record)
    print(as_markdown(record))


if __name__ == "__main__":
    main()
