"""Examples of an evaluation, from the text of a graph."""

from __future__ import annotations

from sgflux.data.examples import SceneExample
from sgflux.data.prompts import prompts_for_graph
from sgflux.graphs.scene_graph import SceneGraph


def example(text: str, *, number: int = 0, held_out: bool | None = None) -> SceneExample:
    graph = SceneGraph.parse(text)
    triple = graph.triples()[0]
    meta: dict[str, object] = {"image_rel_path": f"images/{number:04d}.png"}
    if held_out is not None:
        meta["held_out_combination"] = held_out
    return SceneExample(
        prompt=prompts_for_graph(SceneGraph.from_triple(triple), "relational"),
        concepts=(triple.subject, triple.predicate, triple.object),
        triple=triple,
        graph=graph,
        meta=meta,
    )
