"""Reading of graphs: the text form, JSON in several shapes, and files of them.

One graph may be given as

- the text form: "man, riding, horse; man, wearing, hat";
- sg2im's form: {"objects": ["man", "horse"], "relationships": [[0, "riding", 1]]};
- a list of triples: [["man", "riding", "horse"]], or of {"subject", "predicate", "object"};
- one triple: {"subject": "man", "predicate": "riding", "object": "horse"};
- a data set's row: an object with one of these under "graph" or "triple" (or both).

JSON may be parsed already, or be the text itself. Predicates become canonical.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgflux.graphs.merging import Merged, merged_line
from sgflux.graphs.predicates import (
    DEFAULT_VOCABULARY,
    PredicateVocabulary,
    UnknownPredicateError,
)
from sgflux.graphs.scene_graph import (
    Reading,
    SceneGraph,
    SceneGraphError,
    Triple,
    read_json,
    read_text,
)

MAX_FILE_BYTES = 64 * 2**20
"""Larger files of graphs are refused unread."""

_TRIPLE = {"subject", "predicate", "object"}


class UnknownWordError(SceneGraphError):
    """A graph with a predicate that the vocabulary does not know."""


@dataclass(frozen=True)
class GivenGraph:
    """A graph that a user gave, with canonical predicates.

    Attributes:
        graph: The graph, with each statement once.
        where: Name of the graph in an error: its text, or its place in a file; "" is none.
        merged: Counts of the statements that were merged or left out.
    """

    graph: SceneGraph
    where: str
    merged: Merged

    def remark(self) -> str | None:
        """Return what was merged and left out, in words; None where nothing was."""
        line = merged_line(repeated=self.merged.repeated, self_related=self.merged.self_related)
        return None if line is None else f"{_place(self.where)}{line}"


def read_graph(
    value: object,
    *,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
    where: str | None = None,
) -> GivenGraph:
    """Return one graph, in any of the module's forms.

    Args:
        value: :class:`SceneGraph`, text, or parsed JSON.
        vocabulary: Vocabulary of canonical predicates and of statements that are the same.
        open_vocabulary: Accept any word as a predicate; else an unknown one is an error.
        where: Name of the graph in an error; None: the value itself; "": no name.

    Raises:
        UnknownWordError: if a predicate is not known; the message names it and the nearest ones.
        SceneGraphError: on anything else that is no graph.
    """
    where = f"graph {_short(value)}" if where is None else where
    place = _place(where)
    try:
        reading = _read(value, vocabulary)
    except SceneGraphError as error:
        raise SceneGraphError(f"{place}{error}") from error
    words = vocabulary.normalize if open_vocabulary else vocabulary.canonical
    try:
        relationships = tuple((s, words(p), o) for s, p, o in reading.graph.relationships)
    except UnknownPredicateError as error:
        raise UnknownWordError(
            f"{place}{error}",
            advice=" (--open-vocabulary accepts any word, --vocabulary FILE adds your own)",
        ) from error
    graph = replace(reading.graph, relationships=relationships)
    return GivenGraph(graph=graph, where=where, merged=reading.merged)


def read_graph_file(
    path: str | os.PathLike[str],
    *,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
) -> list[GivenGraph]:
    """Read the graphs of a file: JSON with one or many, JSON lines, or the text form.

    A JSON list is many graphs, unless its entries are triples: then it is one. An empty line is
    none.

    Raises:
        SceneGraphError: naming the file and the line or the number of the graph.
    """
    found = [
        read_graph(value, vocabulary=vocabulary, open_vocabulary=open_vocabulary, where=where)
        for where, value in _entries(Path(path))
    ]
    if not found:
        raise SceneGraphError(f"{os.fspath(path)}: has no graph")
    return found


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    """Yield (what an error calls it, value) of every graph of a file."""
    try:
        if not path.is_file():
            raise SceneGraphError(f"{path}: is no file; give one with graphs in JSON or JSON lines")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SceneGraphError(
                f"{path}: has {path.stat().st_size:,} bytes, more than {MAX_FILE_BYTES:,}"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SceneGraphError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise SceneGraphError(f"{path}: not UTF-8: {error}") from error
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", line.strip()
        return
    if isinstance(whole, list) and not _is_triples(whole):
        for number, value in enumerate(whole, start=1):
            yield f"{path}: graph {number}", value
    else:
        yield f"{path}", whole


def _read(value: object, vocabulary: PredicateVocabulary) -> Reading:
    if isinstance(value, SceneGraph):
        return read_json(value.to_json(), vocabulary)
    if isinstance(value, str):
        if not value.lstrip().startswith(("{", "[", '"')):
            return read_text(value, vocabulary)
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise SceneGraphError(f"looks like JSON but is not: {error}") from error
        if isinstance(parsed, str):
            return read_text(parsed, vocabulary)
        return _read(parsed, vocabulary)
    if isinstance(value, Mapping):
        if value.get("graph") is not None:
            return _read(value["graph"], vocabulary)
        if isinstance(value.get("triple"), Mapping):
            return _read(value["triple"], vocabulary)
        if set(value) == _TRIPLE:
            return _of_triples([value], vocabulary)
        return read_json(value, vocabulary)
    if isinstance(value, Sequence) and not isinstance(value, bytes) and _is_triples(value):
        return _of_triples(value, vocabulary)
    raise SceneGraphError(
        "expected the text form 'man, riding, horse', "
        '{"objects": [...], "relationships": [...]} or a list of [subject, predicate, object], '
        f"got {_short(value)}"
    )


def _is_triples(value: Sequence[object]) -> bool:
    """Whether a list is one graph: three words each, or their names."""
    return bool(value) and all(
        (isinstance(entry, Mapping) and set(entry) == _TRIPLE)
        or (
            isinstance(entry, list | tuple)
            and len(entry) == 3
            and all(isinstance(word, str) for word in entry)
        )
        for entry in value
    )


def _of_triples(entries: Sequence[Any], vocabulary: PredicateVocabulary) -> Reading:
    """Read triples as in the text form: equal names are one object, ``dog#2`` is another dog."""
    triples = [
        Triple(**entry) if isinstance(entry, Mapping) else Triple(*entry) for entry in entries
    ]
    for number, triple in enumerate(triples, start=1):
        if any(mark in word for word in vars(triple).values() for mark in ",;"):
            raise SceneGraphError(
                f"triple {number} has a ',' or ';' in a word; give objects and relationships"
            )
    return read_text("; ".join(map(str, triples)), vocabulary)


def _place(where: str) -> str:
    """The beginning of a message about something with this name."""
    return f"{where}: " if where else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
