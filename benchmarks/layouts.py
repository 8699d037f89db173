"""How often predicted boxes obey what their graphs state, by the number of statements.

    python benchmarks/layouts.py --adapter runs/first/final --data world/test.jsonl

Statements with a geometric predicate are read off the boxes by the rules of the judge 'geometry'
(:mod:`sgflux.data.box_rules`), without any picture. Beside the predicted boxes stand the
true ones, which say how good the rules are, and those of another row with as many objects, which
say what chance gives.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sgflux.data.box_rules import find_rule
from sgflux.data.boxes import Layout
from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.layouts import shown_layouts
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.boxes import layouts_for

_DIAGONAL = math.sqrt(2)  # of a picture whose sides are 1


class Obeyed(NamedTuple):
    """Statements that boxes obey, and graphs whose geometric statements they all obey."""

    statements: int = 0
    of_statements: int = 0
    graphs: int = 0
    of_graphs: int = 0

    def __str__(self) -> str:
        """Both as counts, like "38/40 (36/38)"."""
        return f"{self.statements}/{self.of_statements} ({self.graphs}/{self.of_graphs})"


def obeyed(graph: SceneGraph, layout: Layout) -> list[bool]:
    """Whether boxes obey each statement of a graph that has a rule and two known boxes.

    Args:
        graph: Graph with a box for each of its objects.
        layout: Boxes in shares of the picture's sides.
    """
    found = []
    for subject, predicate, object_ in graph.relationships:
        rule, own, other = find_rule(predicate), layout[subject], layout[object_]
        if rule is not None and own is not None and other is not None:
            found.append(rule(own, other, _DIAGONAL))
    return found


def count_obeyed(graphs: Iterable[SceneGraph], layouts: Iterable[Layout | None]) -> Obeyed:
    """Count what boxes obey; graphs without geometric statements or without boxes count nothing."""
    found = Obeyed()
    for graph, layout in zip(graphs, layouts, strict=True):
        verdicts = [] if layout is None else obeyed(graph, layout)
        if verdicts:
            new = sum(verdicts), len(verdicts), int(all(verdicts)), 1
            found = Obeyed(*(old + more for old, more in zip(found, new, strict=True)))
    return found


def of_others(layouts: Sequence[Layout]) -> list[Layout | None]:
    """The layout of the next row with as many objects, for each row; None: there is no such row."""
    others: list[Layout | None] = []
    for row, layout in enumerate(layouts):
        rest = (*layouts[row + 1 :], *layouts[:row])
        others.append(next((one for one in rest if len(one) == len(layout)), None))
    return others


def measure(
    pipeline: SceneGraphFluxPipeline, examples: Sequence[SceneExample], true: Sequence[Layout]
) -> dict[str, Obeyed]:
    """Predicted boxes, true boxes and boxes of other rows -> what they obey."""
    graphs = [example.graph for example in examples]
    predicted = layouts_for(pipeline.model, graphs, range(len(graphs)), "predicted")
    kinds = {"predicted": predicted, "true": true, "of another row": of_others(true)}
    return {name: count_obeyed(graphs, layouts) for name, layouts in kinds.items()}


def main() -> None:
    """Print one line for each number of statements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--adapter", type=Path, required=True, help="Bundle with a predictor.")
    parser.add_argument("--model-id", default="tiny", help="Base of the adapter.")
    parser.add_argument("--data", type=Path, required=True, help="JSONL file of rows with boxes.")
    given = parser.parse_args()
    pipeline = SceneGraphFluxPipeline.from_pretrained(given.model_id, adapter=given.adapter)
    rows = [row for row in read_examples(given.data) if row.boxes is not None]
    for count in sorted({len(row.graph.relationships) for row in rows}):
        own = [row for row in rows if len(row.graph.relationships) == count]
        sizes = [pipeline.picture_size(None, None)] * len(own)
        true = shown_layouts(own, images_dir=given.data.parent, sizes=sizes, crop="auto")
        parts = measure(pipeline, own, true).items()
        print(f"{count} statements:", "; ".join(f"{name} {figures}" for name, figures in parts))


if __name__ == "__main__":
    main()
