"""Where the objects of a picture that is drawn are to be: given, predicted, or left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sgflux.data.boxes import Layout
from sgflux.data.given_boxes import NamedBoxes, layout_by_name
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel

BoxesInput = Literal["predicted", "none"] | NamedBoxes | Sequence[Layout | None] | None
"""Boxes predicted from graph and seed, no boxes, boxes by the names of objects, one layout for each
picture, or the adapter's default: predicted if it has a predictor, else none."""


def layouts_for(
    model: GraphLoraModel | None,
    graphs: Sequence[SceneGraph | None],
    seeds: Sequence[int],
    boxes: BoxesInput,
) -> list[Layout | None]:
    """Return the boxes of each picture's objects; None: they are left open.

    Args:
        model: Model with its adapter; None: the base alone.
        graphs: Graph of each picture.
        seeds: Seed of each picture's noise, from which that of predicted boxes follows.
        boxes: Boxes as :data:`BoxesInput` says.

    Raises:
        SgfluxError: if the boxes are not those of the graphs, or the adapter cannot predict any.
    """
    nothing: list[Layout | None] = [None] * len(graphs)
    told = [row for row, graph in enumerate(graphs) if graph is not None and not graph.is_null]
    if boxes == "none" or model is None or not told:
        if boxes not in (None, "none"):
            raise SgfluxError("boxes have no effect without an adapter and a graph; leave them out")
        return nothing
    if boxes is None and model.layout is None:
        return nothing
    own = [graphs[row] or SceneGraph.null() for row in told]
    if boxes is None or boxes == "predicted":
        found: Sequence[Layout | None] = model.sample_layouts(own, [seeds[row] for row in told])
    elif isinstance(boxes, Mapping):
        found = [layout_by_name(graph, boxes) for graph in own]
    elif isinstance(boxes, str) or len(boxes) != len(graphs):
        raise SgfluxError(
            "boxes must be 'predicted', 'none', a table of boxes by name, or one layout for each "
            f"of {len(graphs)} pictures, got {boxes!r}"
        )
    else:
        found = [boxes[row] for row in told]
    for row, layout in zip(told, found, strict=True):
        nothing[row] = layout
    return nothing


def boxes_record(
    model: GraphLoraModel | None, graph: SceneGraph | None, boxes: BoxesInput
) -> dict[str, Any]:
    """Describe the boxes of one picture, as plain JSON; nothing where boxes have no effect.

    Predicted boxes follow from adapter, graph and seed, so they are not listed.
    """
    if model is None or not model.takes_layouts or graph is None or graph.is_null:
        return {}
    if boxes is None:
        boxes = "none" if model.layout is None else "predicted"
    if isinstance(boxes, str):
        return {"boxes": boxes}
    (layout,) = layouts_for(model, [graph], [0], boxes)
    if layout is None:
        return {"boxes": "none"}
    return {"boxes": [None if box is None else list(box) for box in layout]}
