"""What a text may say of a graph, and the text that says it."""

from __future__ import annotations

from typing import get_args

from sgflux.data.examples import SceneExample
from sgflux.data.reading_order import reading_order
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.conditions import PromptKind

PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
"""What a text may say of the relation: all of it, its objects only, nothing."""


def prompts_for_graph(graph: SceneGraph, kind: PromptKind) -> str:
    """Return the text of a graph.

    - relational: "a photo of man riding horse and man wearing hat", in canonical words
      ("around/near" is written "near"), then the objects without a relationship;
    - neutral: "a photo of man and horse and hat", each object once, in the graph's own order (a
      data set that shuffles its objects gives no role away);
    - empty: "".

    A graph without objects gives "" for every kind.

    Raises:
        SgfluxError: on an unknown ``kind``.
    """
    if kind not in PROMPT_KINDS:
        raise SgfluxError(f"kind of prompt must be one of {list(PROMPT_KINDS)}, got {kind!r}")
    if kind == "empty" or not graph.objects:
        return ""
    names = graph.objects
    if kind == "neutral":
        parts = list(names)
    else:
        mentioned = {i for s, _, o in graph.relationships for i in (s, o)}
        parts = [
            f"{names[s]} {in_prose(DEFAULT_VOCABULARY.normalize(predicate))} {names[o]}"
            for s, predicate, o in graph.relationships
        ]
        parts += [name for i, name in enumerate(names) if i not in mentioned]
    return f"a photo of {' and '.join(parts)}"


def prompt_for(example: SceneExample, kind: PromptKind) -> str:
    """Return the example's text of one kind, that of its graph: :func:`prompts_for_graph`.

    The relational text is the row's own ``prompt`` where its triple is all that its graph states,
    and where the row is of a benchmark, whose prompt states the whole graph. Other triples are
    stated in reading order, in which the native graph encoder numbers them too: equal graphs have
    equal texts, whose pictures an adapter told the graph alone can foresee.

    Raises:
        SgfluxError: on an unknown ``kind``.
    """
    graph = example.graph
    if kind != "relational":
        return prompts_for_graph(graph, kind)
    if len(graph.relationships) == 1 or "benchmark" in example.meta:
        return example.prompt
    stated = tuple(graph.relationships[index] for index in reading_order(graph))
    return prompts_for_graph(SceneGraph(objects=graph.objects, relationships=stated), kind)


def in_prose(predicate: str) -> str:
    """Return a canonical predicate as a sentence has it."""
    return "near" if predicate == "around/near" else predicate
