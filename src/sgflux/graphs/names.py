"""The names and statements of a graph, as a text encoder is given them."""

from __future__ import annotations

from collections.abc import Iterable

from sgflux.graphs.predicates import (
    CANONICAL_PREDICATES,
    DEFAULT_VOCABULARY,
    PredicateVocabulary,
)
from sgflux.graphs.scene_graph import SceneGraph

CONTEXT_MARKS = ("\u27e6", "\u27e7")
"""Around the part of a statement whose features are meant: the two mathematical white brackets."""


def plain_name(name: str) -> str:
    """Return the name in lower case with single spaces: names are compared in this form."""
    return " ".join(name.lower().split())


def names_in_context(subject: str, predicate: str, object_: str) -> tuple[str, str, str]:
    """Return subject, predicate and object, each as a part of the triple's statement."""
    opened, closed = CONTEXT_MARKS
    # "around/near" is said "near"; a slash in a word of the user's ("w/", "and/or") is its own.
    said = predicate.split("/")[-1] if predicate in CANONICAL_PREDICATES else predicate
    return (
        f"{opened}{subject}{closed} {said} {object_}",
        f"{subject} {opened}{said}{closed} {object_}",
        f"{subject} {said} {opened}{object_}{closed}",
    )


def is_statement(name: str) -> bool:
    """Whether a name is a part of a statement, see :func:`names_in_context`."""
    return CONTEXT_MARKS[0] in name


def graph_names(
    graphs: Iterable[SceneGraph], vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> list[str]:
    """Return every name whose features the native graph encoder needs for the graphs, each once.

    Objects by name, predicates by canonical name where they have one, and all three of a triple
    in the context of its statement.
    """
    names: dict[str, None] = {}
    for graph in graphs:
        objects = list(map(plain_name, graph.objects))
        names.update(dict.fromkeys(objects))
        for subject, predicate, object_ in graph.relationships:
            said = vocabulary.normalize(predicate)
            names[said] = None
            names.update(dict.fromkeys(names_in_context(objects[subject], said, objects[object_])))
    return list(names)
