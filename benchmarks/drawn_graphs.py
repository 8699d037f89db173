"""Draw six graphs of three and four statements, ten seeds each, with the verdicts of the judge.

    python benchmarks/drawn_graphs.py --adapter tiny --trained-on runs/full/data

The first graph is fixed, the five others are drawn by a seed. No picture is left out: the pictures
of seed 0 to 9 are those of ``sgflux sample --num-images 10 --steps 8``. ``--trained-on`` is the
folder of the world that the adapter was trained on; it says which shapes of graphs are held out.

Writes one contact sheet a graph into ``docs/figures``, and ``benchmarks/results/drawn_graphs.json``
with every verdict; prints a table of counts, as ``--table JSON`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hard_graphs import adapter_parser, given_command, given_flags, read_arguments
from measuring import ROOT, machine
from PIL import Image
from result_files import write_json

from sgflux.data.pictures import contact_sheet
from sgflux.data.prompts import prompts_for_graph
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.judge import Judge, Reading, read_pictures
from sgflux.files.writing import make_folder, replacing
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import DrawingSettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter
from sgflux.world.scenes import sample_scene
from sgflux.world.shapes import shape_of, shapes_of

FIRST = "man, riding, horse; dog, left of, horse; dog#2, right of, horse; man, holding, cup"
"""The graph of the README and of the issue that asked for it."""
OTHERS = ((3, False), (4, False), (3, True), (4, True), (4, True))
"""Number of statements of the other graphs, and whether they have twins."""
SEED = 20261153
"""Seed of the other graphs, which nothing else uses."""
SEEDS = range(10)


def graphs_to_draw(*, seed: int = SEED) -> list[SceneGraph]:
    """Return the fixed graph and the drawn ones; objects are in the order of their statements.

    Args:
        seed: Seed that decides shapes, objects and predicates of the drawn ones.
    """
    rng = np.random.default_rng(seed)
    graphs = [SceneGraph.parse(FIRST)]
    for statements, twins in OTHERS:
        shapes = shapes_of(statements, twins=twins)
        shape = shapes[int(rng.integers(len(shapes)))]
        # The scene is drawn only to be sure that the world has room for what the graph states.
        scene = sample_scene(rng, triples=statements, shape=shape)
        graph = SceneGraph(objects=scene.objects, relationships=scene.relationships)
        graphs.append(SceneGraph.parse(graph.to_text()))
    return graphs


def draw(
    pipeline: SceneGraphFluxPipeline, graph: SceneGraph, drawing: DrawingSettings, boxes: str | None
) -> np.ndarray:
    """Draw one picture for each seed, in the batches of ``sgflux sample``: (10, H, W, 3) uint8."""
    size, prompt = drawing.batch_size, prompts_for_graph(graph, "neutral")
    batches = [SEEDS[start : start + size] for start in range(0, len(SEEDS), size)]
    return np.concatenate(
        [
            pipeline.sample_batch(
                [graph] * len(batch),
                [prompt] * len(batch),
                batch,
                steps=drawing.steps,
                graph_scale=drawing.graph_scale,
                boxes=boxes,  # type: ignore[arg-type]  # one of two words, by argparse
            )
            for batch in batches
        ]
    )


def verdicts(judge: Judge, graph: SceneGraph, pictures: np.ndarray) -> list[list[bool]]:
    """Return whether each statement of the graph holds, for every picture."""
    statements = list(graph.labelled_triples())
    readings: Sequence[Reading] = read_pictures(judge, pictures, [statements] * len(pictures))
    return [[reading.is_right(triple) for triple in statements] for reading in readings]


def caption(graph: SceneGraph, seed: int, holds: Sequence[bool]) -> str:
    """Say which statements do not hold, like "seed 3: 3 of 4, not dog left of horse"."""
    if all(holds):
        return f"seed {seed}: all {len(holds)} hold"
    if not any(holds):
        return f"seed {seed}: none of {len(holds)} holds"
    stated = zip(graph.labelled_triples(), holds, strict=True)
    wrong = [f"{t.subject} {t.predicate} {t.object}" for t, right in stated if not right]
    return f"seed {seed}: {sum(holds)} of {len(holds)}, not {'; not '.join(wrong)}"


def write_sheet(
    path: Path,
    pictures: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    columns: int = 5,
    scale: int = 3,
) -> None:
    """Write a contact sheet as WebP."""
    sheet: Image.Image = contact_sheet(list(pictures), captions, columns=columns, scale=scale)
    make_folder(path.parent)
    with replacing(path) as file:
        sheet.save(file, format="WEBP", quality=80, method=6)


def as_table(record: Mapping[str, Any]) -> str:
    """Markdown: a line a graph, with the number of seeds whose picture shows every statement."""
    lines = [
        "| graph | shape | all statements right | statements right |",
        "|---|---|---|---|",
    ]
    for one in record["graphs"]:
        holds = [right for picture in one["holds"] for right in picture]
        whole = sum(all(picture) for picture in one["holds"])
        shape = f"{one['shape']}{' (held out)' if one['held_out_shape'] else ''}"
        lines.append(
            f"| {one['graph']} | {shape} | {whole} of {len(one['holds'])} "
            f"| {sum(holds)} of {len(holds)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Draw, judge, and write sheets and counts."""
    parser = adapter_parser(__doc__, "drawn_graphs.json")
    add = parser.add_argument
    add("--figures", type=Path, default=ROOT / "docs" / "figures", help="Folder of the sheets.")
    add("--model-id", help="Base model; by default the one that the adapter names.")
    add("--boxes", choices=("predicted", "none"), help="Boxes, as for 'sgflux sample'.")
    add("--steps", type=int, default=8)
    add("--graph-scale", type=float, default=1.0)
    if (given := given_flags(parser, as_table)) is None:
        return
    held_out = read_arguments(given.trained_on).get("hold_out_shapes", [])
    drawing = DrawingSettings(steps=given.steps, graph_scale=given.graph_scale)
    pipeline = SceneGraphFluxPipeline.from_settings(
        ModelSource(model_id=given.model_id),
        TrainedAdapter(adapter=given.adapter),
        SamplingCompute(),
    )
    judge = make_judge("world", Means())
    assert judge is not None, "only 'none' is no judge"
    found = []
    for number, graph in enumerate(graphs_to_draw()):
        pictures = draw(pipeline, graph, drawing, given.boxes)
        holds = verdicts(judge, graph, pictures)
        sheet = given.figures / f"drawn_graph_{number}.webp"
        captions = [caption(graph, *one) for one in zip(SEEDS, holds, strict=True)]
        write_sheet(sheet, pictures, captions)
        shape = shape_of(graph)
        found.append(
            {
                "graph": graph.to_text(),
                "shape": shape,
                "held_out_shape": shape in held_out,
                "sheet": sheet.name,
                "holds": holds,
            }
        )
        print(
            f"{sheet}: {sum(map(all, holds))} of {len(holds)} whole: {graph.to_text()}", flush=True
        )
    record = {
        "command": given_command("drawn_graphs.py"),
        **machine(),
        "adapter": pipeline.adapter_fingerprint,
        **pipeline.base_record(),
        "judge": {"name": judge.identity.name, "sha256": judge.identity.sha256},
        "settings": {
            "steps": given.steps,
            "graph_scale": given.graph_scale,
            "boxes": given.boxes,
            "seeds": list(SEEDS),
            "seed_of_graphs": SEED,
        },
        "graphs": found,
    }
    write_json(given.out, record)
    print(as_table(record))


if __name__ == "__main__":
    main()
