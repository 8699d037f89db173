"""What a text may say of a graph, and the text that says it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import get_args

from sgflux.data.examples import SceneExample
from sgflux.data.mentions import Mentions
from sgflux.data.reading_order import reading_order
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import NegativeKind, Negatives, NegativeUnavailableError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.conditions import PromptKind

PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
"""What a text may say of the relation: all of it, its objects only, nothing, something false."""


def prompts_for_graph(graph: SceneGraph, kind: PromptKind) -> str:
    """Return the text of a graph.

    - relational: "a photo of man riding horse and man wearing hat", in canonical words
      ("around/near" is written "near"), then the objects without a relationship; of several
      statements about things of one name, the text of :func:`terse`, which tells them apart;
    - neutral: "a photo of man and horse and hat", each object once, in the graph's own order (a
      data set that shuffles its objects gives no role away);
    - empty: "";
    - contradicting: the text of :func:`contradicting_prompt`.

    A graph without objects gives "" for every kind.

    Raises:
        SgfluxError: on an unknown ``kind``.
    """
    if kind not in PROMPT_KINDS:
        raise SgfluxError(f"kind of prompt must be one of {list(PROMPT_KINDS)}, got {kind!r}")
    if kind == "empty" or not graph.objects:
        return ""
    if kind == "contradicting":
        return contradicting_prompt(graph)
    if kind == "neutral":
        return f"a photo of {' and '.join(graph.objects)}"
    # A single statement about two dogs says the same of whichever is called the first.
    if len(graph.relationships) > 1 and graph.labels() != graph.objects:
        return terse(graph)
    return _statements(graph, graph.objects.__getitem__)


def terse(graph: SceneGraph) -> str:
    """Write "a photo of man riding horse and man wearing hat", but "another dog" of a second one.

    It is the shortest text that tells things of equal names apart: the second dog is "another dog",
    and where they are mentioned again they are "first dog" and "second dog". Statements come in the
    graph's own order.
    """
    mentions = Mentions(graph)
    return _statements(graph, lambda index: re.sub("^(a|an|the) ", "", mentions.name(index)))


def contradicting_prompt(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> str:
    """Return the relational text of another graph, which follows from this one alone.

    One statement is changed: its roles are swapped, or it has another predicate, each as often
    where both can be. The change is false by the graph, not by what else its picture shows. A graph
    that has no such change gives its neutral text.

    Args:
        graph: Graph that the text contradicts.
        vocabulary: Vocabulary of the predicates, which also says which statements are the same.
    """
    negatives = Negatives(graph, vocabulary=vocabulary)
    kinds = {NegativeKind.ROLE_SWAP: 1.0, NegativeKind.PREDICATE: 1.0}
    try:
        other = negatives.draw(random.Random(graph.to_text()), kinds)
    except NegativeUnavailableError:
        return prompts_for_graph(graph, "neutral")
    return prompts_for_graph(other.graph, "relational")


def _statements(graph: SceneGraph, name: Callable[[int], str]) -> str:
    """State the relationships, then the objects without one, by their names in order of mention."""
    mentioned = {i for s, _, o in graph.relationships for i in (s, o)}
    parts = [
        f"{name(s)} {in_prose(DEFAULT_VOCABULARY.normalize(predicate))} {name(o)}"
        for s, predicate, o in graph.relationships
    ]
    parts += [name(i) for i in range(len(graph.objects)) if i not in mentioned]
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


def true_prompt_for(example: SceneExample, kind: PromptKind) -> str:
    """Return the text that :func:`prompt_for` returns, but the neutral one for a contradicting one.

    Raises:
        SgfluxError: on an unknown ``kind``.
    """
    return prompt_for(example, "neutral" if kind == "contradicting" else kind)


def in_prose(predicate: str) -> str:
    """Return a canonical predicate as a sentence has it."""
    return "near" if predicate == "around/near" else predicate
