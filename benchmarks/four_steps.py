"""Measure what fine-tuning does to a distilled model's few-step pictures, with and without anchor.

    sgflux train ... --output-dir runs/plain
    sgflux train ... --lambda-anchor 1 --output-dir runs/anchored
    python benchmarks/four_steps.py --adapter plain=runs/plain/final \\
        --adapter anchored=runs/anchored/final --data runs/demo/data/test.jsonl \\
        --out benchmarks/results/four_steps

The base, and every adapter without a graph and with the true one, draw from neutral text and the
same noise. The bundled judge gives three figures of each set of pictures:

    objects    share of pictures that show every object that the text names
    relation   share of pictures that show every stated relation (macro over predicates)
    distance   Fréchet distance of the judge's features to the base's pictures at REFERENCE_STEPS
               steps from other noise; the base's own distance to them is due to noise alone

Writes ``{out}.json`` and ``{out}.md``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgflux.data.examples import read_examples
from sgflux.data.prompts import prompts_for_graph
from sgflux.evaluation.judges.judge import read_pictures
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.metrics import macro_estimate
from sgflux.evaluation.quality import frechet_distance
from sgflux.files.writing import replacing
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline

REFERENCE_STEPS = 8
BATCH = 48


@dataclass(frozen=True)
class Drawn:
    """One set of pictures.

    Attributes:
        who: Name of the base or the adapter, and whether it had a graph.
        steps: Number of Euler steps.
        objects, relation, distance: Figures that the module's docstring explains.
        interval: 95 % interval of ``relation``.
    """

    who: str
    steps: int
    objects: float
    relation: float
    interval: tuple[float, float] | None
    distance: float


class Bench:
    """The test items, their judge, and the base's reference pictures."""

    def __init__(self, graphs: list[SceneGraph], *, repeats: int, model_id: str) -> None:
        """Draw the reference."""
        self.graphs = [graph for graph in graphs for _ in range(repeats)]
        self.clusters = [str(index) for index in range(len(graphs)) for _ in range(repeats)]
        self.prompts = [prompts_for_graph(graph, "neutral") for graph in self.graphs]
        self.judge = WorldJudgeAdapter.load()
        self.base = SceneGraphFluxPipeline.from_pretrained(model_id)
        pictures = self._draw(self.base, None, steps=REFERENCE_STEPS, first_seed=50_000)
        self.reference = self.judge.features(pictures)

    def _draw(
        self,
        pipeline: SceneGraphFluxPipeline,
        graphs: list[SceneGraph] | None,
        *,
        steps: int,
        first_seed: int = 0,
    ) -> np.ndarray:
        parts = []
        for start in range(0, len(self.prompts), BATCH):
            window = slice(start, start + BATCH)
            count = len(self.prompts[window])
            seeds = list(range(first_seed + start, first_seed + start + count))
            own = None if graphs is None else graphs[window]
            parts.append(pipeline.sample_batch(own, self.prompts[window], seeds, steps=steps))
        return np.concatenate(parts)

    def measure(
        self, who: str, pipeline: SceneGraphFluxPipeline, *, graph: bool, steps: int
    ) -> Drawn:
        """Draw and judge one set."""
        pictures = self._draw(pipeline, self.graphs if graph else None, steps=steps)
        statements = [graph.triples() for graph in self.graphs]
        readings = read_pictures(self.judge, pictures, statements)
        rows = list(zip(readings, statements, self.graphs, strict=True))
        overall = macro_estimate(
            [
                (float(all(map(reading.is_right, said))), said[0].predicate, cluster)
                for (reading, said, _), cluster in zip(rows, self.clusters, strict=True)
            ]
        ).overall
        return Drawn(
            who=who,
            steps=steps,
            objects=float(np.mean([reading.has_all(graph.objects) for reading, _, graph in rows])),
            relation=float(overall.value or 0.0),
            interval=overall.ci95,
            distance=frechet_distance(self.judge.features(pictures), self.reference),
        )


def table(rows: list[Drawn], *, count: int) -> str:
    """Format the sets as a Markdown table."""
    lines = [
        f"{count} pictures a row, neutral text; distance: Fréchet, on the judge's features.",
        "",
        "| who draws | steps | objects | relation (95 %) | distance to the base |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval or (float("nan"), float("nan"))
        lines.append(
            f"| {row.who} | {row.steps} | {row.objects:.1%} | {row.relation:.1%} "
            f"({low:.1%} to {high:.1%}) | {row.distance:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _write(path: Path, rows: list[Drawn], *, command: str, count: int) -> None:
    """Write ``{path}.json`` and ``{path}.md``."""
    text = table(rows, count=count)
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"command": command, "rows": [vars(row) for row in rows]}
    for ending, content in (("json", json.dumps(figures, indent=2) + "\n"), ("md", text)):
        with replacing(path.with_suffix(f".{ending}")) as file:
            file.write(content.encode())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--data", type=Path, required=True, help="JSONL of the test examples.")
    parser.add_argument("--model-id", default="tiny")
    parser.add_argument("--items", type=int, default=0, help="Number of test items; 0 takes all.")
    parser.add_argument("--repeats", type=int, default=4, help="Number of noises for each item.")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8])
    parser.add_argument(
        "--out", type=Path, required=True, help="Path of the results, without a suffix."
    )
    args = parser.parse_args()
    adapters = dict(entry.split("=", 1) for entry in args.adapter)
    examples = read_examples(args.data)
    graphs = [example.graph for example in examples[: args.items or None]]
    bench = Bench(graphs, repeats=args.repeats, model_id=args.model_id)
    rows = [bench.measure("base", bench.base, graph=False, steps=steps) for steps in args.steps]
    for name, folder in adapters.items():
        pipeline = SceneGraphFluxPipeline.from_pretrained(args.model_id, adapter=folder)
        for graph in (False, True):
            who = f"{name}, {'true graph' if graph else 'no graph'}"
            rows += [bench.measure(who, pipeline, graph=graph, steps=steps) for steps in args.steps]
    _write(args.out, rows, command=shlex.join(sys.argv), count=len(bench.graphs))


if __name__ == "__main__":
    main()
