"""One example (a picture, a triple, its graph, its prompt) and the JSONL files it lives in.

Predicates are canonical from here on; the words of the file stay beside them in ``meta``
(``predicate_raw``, and ``relationships_raw`` where the graph was worded differently).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from sgflux.data.boxes import Box
from sgflux.data.files import resolve_path
from sgflux.data.schema import (
    PredicateReader,
    boxes_field,
    graph_field,
    list_field,
    meta_field,
    name_field,
    short,
    text_field,
    triple_field,
)
from sgflux.errors import SgfluxError, located
from sgflux.files.reading import naming_unreadable, refuse_constant
from sgflux.files.writing import make_folder, replacing
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph, Triple


class Digest(Protocol):
    """A digest that hashlib computes."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""


_REQUIRED = ("prompt", "concepts", "triple", "meta")
_FIELDS = frozenset({*_REQUIRED, "graph", "boxes"})


@dataclass(frozen=True, kw_only=True)
class SceneExample:
    """One row of a data set.

    Attributes:
        prompt: the row's own text, usually the relational one of ``triple``.
        concepts: the words whose saliency may be asked for, usually subject, predicate, object.
        triple: the statement that the row stands for; its predicate is canonical.
        graph: Graph that conditions the picture, with canonical predicates: the row's whole graph
            or, where it has none, that of ``triple`` (object 0 is its subject, 1 its object).
        boxes: one box for each object of ``graph``, or None.
        meta: Further fields, at least ``image_rel_path``; all are kept.
        extra: the row's unknown top-level fields, kept for the way back.
        explicit_graph: whether the row spells its graph out even if that is only its triple.
        line: number of its line in its file, from 1; None if it is of no file. Equal rows of
            different lines are equal.

    Raises:
        SgfluxError: if the parts contradict each other; the message names the field.
    """

    prompt: str
    concepts: tuple[str, ...]
    triple: Triple
    graph: SceneGraph
    boxes: tuple[Box, ...] | None = None
    meta: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    explicit_graph: bool = True
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Freeze the mappings and check the parts against each other."""
        path = self.meta.get("image_rel_path")
        if not isinstance(path, str) or not path.strip():
            raise SgfluxError(
                "meta.image_rel_path must be the picture's path below the images folder, "
                f"got {path!r}"
            )
        if self._find_triple() is None:
            stated = "; ".join(str(triple) for triple in self.graph.triples()) or "nothing"
            raise SgfluxError(f"the graph states {stated!r} but not the triple '{self.triple}'")
        if self.boxes is not None and len(self.boxes) != len(self.graph.objects):
            raise SgfluxError(
                f"boxes has {len(self.boxes)} entries, but the graph has "
                f"{len(self.graph.objects)} objects {list(self.graph.objects)}; "
                "one box belongs to each object, in their order"
            )
        taken = sorted(_FIELDS & set(self.extra))
        if taken:
            raise SgfluxError(f"extra must not have the schema's own fields {taken}")
        if self.boxes is not None:
            object.__setattr__(self, "boxes", tuple(Box(*box) for box in self.boxes))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle plain dictionaries (mapping proxies do not pickle)."""
        state = {**self.__dict__, "meta": dict(self.meta), "extra": dict(self.extra)}
        return partial(SceneExample, **state), ()

    @property
    def image_rel_path(self) -> str:
        """The picture's path below the images folder."""
        path: str = self.meta["image_rel_path"]
        return path

    @property
    def is_mirrored(self) -> bool:
        """Whether the row is about the mirror image of its file (``meta.mirrored``)."""
        return bool(self.meta.get("mirrored", False))

    @property
    def picture(self) -> tuple[str, bool]:
        """Which picture the row is about: its path, and whether it is mirrored."""
        return self.image_rel_path, self.is_mirrored

    @property
    def known_triples(self) -> tuple[Triple, ...]:
        """What else the row knows to be true of its picture (``meta.known_triples``)."""
        return tuple(Triple(*entry) for entry in self.meta.get("known_triples", ()))

    def named(self, row: int, *, kind: str = "example") -> str:
        """Return what an error calls the example: its line, or without one its number from 1.

        Args:
            row: Index among the examples at hand, from 0.
            kind: Word for the row in a message where its line is not known.
        """
        place = f"{kind} {row + 1}" if self.line is None else f"line {self.line}"
        return f"{place} ({self.image_rel_path})"

    def with_meta(self, **fields: Any) -> SceneExample:
        """Return the example with further (or other) fields of ``meta``."""
        return replace(self, meta={**self.meta, **fields})

    @property
    def triple_index(self) -> int:
        """Which relationship of ``graph`` is ``triple`` (the first one in its words)."""
        index = self._find_triple()
        assert index is not None, "checked at construction"
        return index

    def _find_triple(self) -> int | None:
        wanted = _folded(self.triple)
        stated = (_folded(triple) for triple in self.graph.triples())
        return next((i for i, triple in enumerate(stated) if triple == wanted), None)

    @classmethod
    def from_json(
        cls,
        row: object,
        *,
        vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
        open_vocabulary: bool = False,
        line: int | None = None,
    ) -> SceneExample:
        """Read one parsed JSONL row.

        Args:
            row: the parsed object; unknown fields are kept, at the top level and in ``meta``.
            vocabulary: makes predicates canonical, and says what a ``meta.class_id`` must be.
            open_vocabulary: accept any word as a predicate; else an unknown one is an error.
            line: number of its line in its file, from 1.

        Raises:
            SgfluxError: naming the field and what is wrong with it. Where a predicate is not in
                the vocabulary, the cause is an :class:`UnknownPredicateError`.
        """
        if not isinstance(row, Mapping):
            raise SgfluxError(f"a row must be a JSON object, got {short(row)}")
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise SgfluxError(f"missing {missing}; a row needs {list(_REQUIRED)}")
        words = PredicateReader(vocabulary, open_vocabulary)
        prompt = text_field(row["prompt"], "prompt")
        concepts = tuple(
            name_field(word, f"concepts[{i}]")
            for i, word in enumerate(list_field(row["concepts"], "concepts"))
        )
        raw = triple_field(row["triple"])
        triple = Triple(raw.subject, words.canonical(raw.predicate, "triple.predicate"), raw.object)
        meta = meta_field(row["meta"], triple, vocabulary)
        meta.setdefault("predicate_raw", raw.predicate)
        explicit = row.get("graph") is not None
        if explicit:
            graph, written = graph_field(row["graph"], words, triple)
            if list(graph.relationships) != written:
                meta.setdefault("relationships_raw", [list(entry) for entry in written])
        else:
            graph = _graph_of(triple)
        return cls(
            prompt=prompt,
            concepts=concepts,
            triple=triple,
            graph=graph,
            boxes=None if row.get("boxes") is None else boxes_field(row["boxes"]),
            meta=meta,
            extra={name: value for name, value in row.items() if name not in _FIELDS},
            explicit_graph=explicit,
            line=line,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the row in fresh containers; :meth:`from_json` reads an equal example from it."""
        row: dict[str, Any] = {
            "prompt": self.prompt,
            "concepts": list(self.concepts),
            "triple": {
                "subject": self.triple.subject,
                "predicate": self.triple.predicate,
                "object": self.triple.object,
            },
            "meta": dict(self.meta),
        }
        if self.explicit_graph or self.graph != _graph_of(self.triple):
            row["graph"] = self.graph.to_json()
        if self.boxes is not None:
            row["boxes"] = [list(box) for box in self.boxes]
        return {**row, **self.extra}


def iter_lines(
    path: str | os.PathLike[str], *, digest: Digest | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, content) of every line that is not blank.

    Args:
        path: the file.
        digest: gets every byte that is read, so that it is of what was parsed.

    Raises:
        SgfluxError: if the file cannot be read.
    """
    with naming_unreadable(path), Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if digest is not None:
                digest.update(line)
            # An editor's byte order mark is no content.
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield number, content.rstrip(b"\r\n")


def iter_rows(
    path: str | os.PathLike[str], *, digest: Digest | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file of rows; see :func:`iter_lines`.

    Raises:
        SgfluxError: if the file cannot be read, or is one JSON document: a list, or an object over
            several lines.
    """
    for place, (number, content) in enumerate(iter_lines(path, digest=digest)):
        if place == 0 and (content.lstrip().startswith(b"[") or content.strip() == b"{"):
            try:
                json.loads(Path(path).read_bytes())
            except (ValueError, RecursionError):
                pass  # a bad row
            else:
                raise SgfluxError(
                    f"{path}: is one JSON document; expected JSON lines: each row is an object on "
                    "a line of its own, without brackets or commas around it"
                )
        yield number, content


def parse_line(
    content: bytes,
    *,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
    number: int | None = None,
) -> SceneExample:
    """Read one line of a JSONL file, its ``number`` from 1, as an example.

    Raises:
        SgfluxError: as :meth:`SceneExample.from_json`; also if the line is no JSON in UTF-8 (the
            cause is then the decoder's error).
    """
    try:
        row = json.loads(content.decode("utf-8"), parse_constant=refuse_constant)
        if b"\\u" in content:
            # JSON can escape half a surrogate pair, which no text may contain.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise SgfluxError(f"not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise SgfluxError(f"not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise SgfluxError(f"not JSON that can be read: {error}") from error
    return SceneExample.from_json(
        row, vocabulary=vocabulary, open_vocabulary=open_vocabulary, line=number
    )


def read_examples(
    path: str | os.PathLike[str],
    *,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
    digest: Digest | None = None,
) -> list[SceneExample]:
    """Read all examples of a JSONL file.

    Args:
        path: the file, UTF-8, one row a line.
        vocabulary: makes predicates canonical.
        open_vocabulary: accept any word as a predicate.
        digest: gets every byte of the file, like ``hashlib.sha256()``.

    Raises:
        SgfluxError: on the first bad row, as ``file:line: what is wrong``; if the file cannot be
            read or has no row.
    """
    examples = []
    for number, content in iter_rows(path, digest=digest):
        with located(f"{path}:{number}"):
            examples.append(
                parse_line(
                    content, vocabulary=vocabulary, open_vocabulary=open_vocabulary, number=number
                )
            )
    if not examples:
        raise SgfluxError(f"{path}: has no row; expected JSON lines, one example each")
    return examples


def write_examples(path: str | os.PathLike[str], examples: Iterable[SceneExample]) -> int:
    """Write a JSONL file, all of it or nothing; returns the number of rows.

    Raises:
        SgfluxError: if there is no example, or a field cannot be written as JSON; the message
            names the row.
    """
    count = 0
    make_folder(Path(path).parent)
    with replacing(path) as file:
        for count, example in enumerate(examples, start=1):
            try:
                line = json.dumps(example.to_json(), ensure_ascii=False, allow_nan=False)
                file.write(line.encode("utf-8") + b"\n")
            except (TypeError, ValueError) as error:
                raise SgfluxError(f"{path}:{count}: cannot be written as JSON: {error}") from error
        if not count:
            raise SgfluxError(f"{path}: there is no example to write")
    return count


def split_summary(path: Path, examples: Sequence[SceneExample]) -> dict[str, Any]:
    """Return what the summary of a data set says of one split.

    Args:
        path: JSONL file of the split.
        examples: Examples in that file; their ``meta`` says whether a combination is held out.
    """
    predicates = Counter(example.triple.predicate for example in examples)
    triples = Counter(len(example.graph.relationships) for example in examples)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": len(examples),
        "pictures": len({example.image_rel_path for example in examples}),
        "predicates": dict(sorted(predicates.items())),
        "triples": {str(size): count for size, count in sorted(triples.items())},
        "held_out_combination": sum(example.meta["held_out_combination"] for example in examples),
        "mirrored": sum(example.is_mirrored for example in examples),
    }


def resolve_image(example: SceneExample, images_dir: str | os.PathLike[str]) -> Path:
    """Return where the example's picture is; see :func:`resolve_path`."""
    return resolve_path(example.image_rel_path, images_dir)


def known_graphs(examples: Iterable[SceneExample]) -> dict[tuple[str, bool], SceneGraph]:
    """Return ``SceneExample.picture`` -> all that the rows know of it, compared by name.

    That is what their graphs state, and their ``meta.known_triples``. It is the ``known`` of
    :class:`sgflux.graphs.negatives.Negatives`: a negative of one row must not be what another
    row says of the same picture. Objects are repeated a statement.
    """
    stated: dict[tuple[str, bool], dict[Triple, None]] = {}
    alone: dict[tuple[str, bool], dict[str, None]] = {}
    for example in examples:
        words = (*example.graph.triples(), *example.known_triples)
        stated.setdefault(example.picture, {}).update(dict.fromkeys(words))
        alone.setdefault(example.picture, {}).update(dict.fromkeys(example.graph.objects))
    graphs = {}
    for picture, triples in stated.items():
        objects = [name for triple in triples for name in (triple.subject, triple.object)]
        relationships = [(2 * i, triple.predicate, 2 * i + 1) for i, triple in enumerate(triples)]
        objects += [name for name in alone[picture] if name not in objects]
        graphs[picture] = SceneGraph(objects=tuple(objects), relationships=tuple(relationships))
    return graphs


def knowing_all(
    examples: Sequence[SceneExample], every: Iterable[SceneExample]
) -> list[SceneExample]:
    """Return examples that know together what all rows say of their pictures.

    Where rows or statements are left out, what they say stays true, and no negative may say it:
    every example of the picture has it among its ``known_triples``.

    Args:
        examples: Some of the rows, perhaps with less in their graphs.
        every: All rows.
    """
    own = {p: set(map(_folded, g.triples())) for p, g in known_graphs(examples).items()}
    lost = {
        picture: [one for one in graph.triples() if _folded(one) not in own[picture]]
        for picture, graph in known_graphs(every).items()
        if picture in own
    }
    return [
        example.with_meta(
            known_triples=[
                [known.subject, known.predicate, known.object]
                for known in (*example.known_triples, *lost[example.picture])
            ]
        )
        if lost[example.picture]
        else example
        for example in examples
    ]


def _graph_of(triple: Triple) -> SceneGraph:
    # Not SceneGraph.from_triple: there "dog#2" is a label, here it is a name like any other.
    return SceneGraph(
        objects=(triple.subject, triple.object), relationships=((0, triple.predicate, 1),)
    )


def _folded(triple: Triple) -> tuple[str, str, str]:
    return triple.subject.casefold(), triple.predicate, triple.object.casefold()
