"""Checks of the fields of one parsed JSONL row; every message starts with the field's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.data.boxes import Box
from sgflux.data.reading_order import MAX_TOLD
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import PredicateVocabulary, UnknownPredicateError
from sgflux.graphs.scene_graph import (
    Relationship,
    SceneGraph,
    SceneGraphError,
    Triple,
    checked_name,
    read_json,
)
from sgflux.settings.checks import is_number


@dataclass(frozen=True)
class PredicateReader:
    """How predicates become canonical; an ``open`` one accepts any word."""

    vocabulary: PredicateVocabulary
    open: bool

    def canonical(self, word: str, where: str) -> str:
        """Return the canonical name of ``word``; in an open vocabulary else the cleaned word.

        Raises:
            SgfluxError: caused by an ``UnknownPredicateError``, if the word is not known.
        """
        if self.open:
            return self.vocabulary.normalize(word)
        try:
            return self.vocabulary.canonical(word)
        except UnknownPredicateError as error:
            raise SgfluxError(
                f"{where}: {error}", advice=" (--open-vocabulary accepts any word)"
            ) from error


def short(value: object) -> str:
    """Return ``value`` as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def text_field(value: object, where: str) -> str:
    """Return a string with something in it, unchanged."""
    if not isinstance(value, str) or not value.strip():
        raise SgfluxError(f"{where} must be a non-empty string, got {short(value)}")
    return value


def name_field(value: object, where: str) -> str:
    """Return the name of an object or a predicate, unchanged."""
    checked_name(text_field(value, where), where)
    return str(value)


def list_field(value: object, where: str) -> Sequence[Any]:
    """Return a list with something in it, unchanged."""
    if not isinstance(value, list | tuple) or not value:
        raise SgfluxError(f"{where} must be a non-empty list, got {short(value)}")
    return value


def triple_field(value: object) -> Triple:
    """Read ``{"subject": ..., "predicate": ..., "object": ...}`` in its own words."""
    fields = ("subject", "predicate", "object")
    if not isinstance(value, Mapping) or set(value) != set(fields):
        raise SgfluxError(f"triple must have exactly the fields {list(fields)}, got {short(value)}")
    return Triple(*(name_field(value[name], f"triple.{name}") for name in fields))


def meta_field(value: object, triple: Triple, vocabulary: PredicateVocabulary) -> dict[str, Any]:
    """Return a copy of ``meta``, whose ``class_id``, if any, is that of the triple's predicate.

    A predicate outside the vocabulary may have any class id.
    """
    if not isinstance(value, Mapping):
        raise SgfluxError(f"meta must be an object, got {short(value)}")
    if "predicate_raw" in value:
        name_field(value["predicate_raw"], "meta.predicate_raw")
    if not isinstance(value.get("mirrored", False), bool):
        raise SgfluxError(f"meta.mirrored must be true or false, got {short(value['mirrored'])}")
    known = value.get("known_triples", [])
    if not isinstance(known, list | tuple):
        raise SgfluxError(f"meta.known_triples must be a list, got {short(known)}")
    for i, entry in enumerate(known):
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            raise SgfluxError(
                f"meta.known_triples[{i}] must be [subject, predicate, object], got {short(entry)}"
            )
        for word in entry:
            name_field(word, f"meta.known_triples[{i}]")
    class_id = value.get("class_id")
    if class_id is not None:
        if isinstance(class_id, bool) or not isinstance(class_id, int):
            raise SgfluxError(f"meta.class_id must be an integer, got {short(class_id)}")
        if triple.predicate in vocabulary:
            expected = vocabulary.class_id(triple.predicate)
            if class_id != expected:
                raise SgfluxError(
                    f"meta.class_id is {class_id}, but the triple's predicate "
                    f"{triple.predicate!r} has the class id {expected}"
                )
    return dict(value)


def graph_field(
    value: object, words: PredicateReader, triple: Triple
) -> tuple[SceneGraph, list[Relationship]]:
    """Return the graph in canonical words, and its relationships as written.

    A statement that is there twice, in the same words, in other words ("on" and "on top of" of the
    same two objects) or inverted, becomes one, in the words of ``triple`` if it is that statement.
    A relation of an object to itself is left out.

    Args:
        value: the parsed field.
        words: makes predicates canonical.
        triple: the row's own statement, in canonical words.
    """
    names = value.get("objects") if isinstance(value, Mapping) else None

    def is_own(entry: Relationship) -> bool:
        assert isinstance(names, Sequence), "checked while the relationships are read"
        subject, predicate, object_ = entry
        ends = [" ".join(str(names[i]).split()).casefold() for i in (subject, object_)]
        predicate = words.vocabulary.normalize(predicate)
        own = (triple.subject.casefold(), triple.predicate, triple.object.casefold())
        return (ends[0], predicate, ends[1]) == own

    try:
        reading = read_json(value, words.vocabulary, is_preferred=is_own)
    except SceneGraphError as error:
        raise SgfluxError(f"graph: {error}") from error
    canonical: dict[str, str] = {}
    for i, (_, predicate, _) in enumerate(reading.written):
        if predicate not in canonical:
            canonical[predicate] = words.canonical(predicate, f"graph.relationships[{i}]")
    if len(reading.graph.relationships) > MAX_TOLD:
        raise SgfluxError(
            f"graph: has {len(reading.graph.relationships):,} relationships, more than the "
            f"{MAX_TOLD:,} that a graph may have"
        )
    relationships = tuple((s, canonical[p], o) for s, p, o in reading.graph.relationships)
    graph = SceneGraph(objects=reading.graph.objects, relationships=relationships)
    return graph, list(reading.written)


def boxes_field(value: object) -> tuple[Box, ...]:
    """Return boxes with four finite numbers and some area; integers stay integers."""
    boxes = []
    for i, entry in enumerate(list_field(value, "boxes")):
        if (
            not isinstance(entry, list | tuple)
            or len(entry) != 4
            or not all(is_number(side) and abs(side) < 2**53 for side in entry)
            or min(entry[2:]) <= 0
        ):
            raise SgfluxError(
                f"boxes[{i}] must be [x, y, width, height] in pixels with a width and height "
                f"above 0, got {short(entry)}"
            )
        boxes.append(Box(*entry))
    return tuple(boxes)
