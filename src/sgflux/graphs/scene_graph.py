"""Scene graphs: objects and (subject, predicate, object) relationships, with text and JSON forms.

A graph keeps its words as they were written (white space apart), since the raw predicate is data;
which words mean the same is for a vocabulary to say (see :mod:`sgflux.graphs.merging`).
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.graphs.merging import Merged, Relationship, merged
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary

_LAYOUT = " \t\r\n"
"""What may stand around the words of the text form."""
_NUMBERED = re.compile(r"(?P<name>.*?)\s*#\s*(?P<number>\d+)")
_LABEL = re.compile(r".*\S#\d+")
"""A label as :meth:`SceneGraph.labels` writes it."""


class SceneGraphError(SgfluxError):
    """A malformed scene graph; the message names the position and the value."""


_NO_LETTERS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, halves of surrogate pairs, and line breaks."""


def checked_name(value: object, where: str) -> str:
    """Return the name of an object or a predicate, with runs of blanks as one blank.

    Args:
        value: The value that was read.
        where: Beginning of the error message.

    Raises:
        SceneGraphError: if it is no text, empty, or holds a line break or a control character.
    """
    if not isinstance(value, str):
        raise SceneGraphError(f"{where} must be a string, got {value!r}")
    if not value.isprintable():
        for mark in value:
            if unicodedata.category(mark) in _NO_LETTERS:
                raise SceneGraphError(
                    f"{where} must be on one line and without control characters, got {mark!r} in "
                    f"{value!r}"
                )
    cleaned = " ".join(value.split())
    if not cleaned:
        raise SceneGraphError(f"{where} must not be empty, got {value!r}")
    return cleaned


def name_of_label(label: str) -> str:
    """Return the name in a label of :meth:`SceneGraph.labels`: "dog" of "dog#2"."""
    numbered = _NUMBERED.fullmatch(label)
    return numbered["name"] if numbered else label


@dataclass(frozen=True)
class Triple:
    """One statement in words; runs of blanks count as one blank.

    Raises:
        SceneGraphError: as :func:`checked_name`.
    """

    subject: str
    predicate: str
    object: str

    def __post_init__(self) -> None:
        """Check and clean the three words."""
        for part in ("subject", "predicate", "object"):
            object.__setattr__(
                self, part, checked_name(getattr(self, part), f"the triple's {part}")
            )

    def __str__(self) -> str:
        """The text form, "man, riding, horse"."""
        return f"{self.subject}, {self.predicate}, {self.object}"


@dataclass(frozen=True)
class SceneGraph:
    """Objects, and relationships between two different ones of them.

    Several objects may have the same name. Objects without a relationship are allowed; so is the
    graph without objects, the null graph. A repeated relationship (same indices, same predicate)
    is refused here; what reads text, JSON or triples merges it with the first one, and JSON's
    relations of an object to itself are left out (:func:`sgflux.graphs.reading.read_graph` counts
    both).

    Attributes:
        objects: Names; runs of blanks count as one blank.
        relationships: (subject index, predicate, object index), in the order given.

    Raises:
        SceneGraphError: on a malformed entry; the message names its position and value.
    """

    objects: tuple[str, ...]
    relationships: tuple[Relationship, ...]

    def __post_init__(self) -> None:
        """Check and clean every entry."""
        objects = tuple(
            checked_name(name, f"objects[{i}]")
            for i, name in enumerate(_entries(self.objects, "objects"))
        )
        relationships: dict[Relationship, int] = {}
        for i, entry in enumerate(_entries(self.relationships, "relationships")):
            relationship = checked_relationship(entry, f"relationships[{i}]", len(objects))
            first = relationships.setdefault(relationship, i)
            if first != i:
                raise SceneGraphError(
                    f"relationships[{i}] = {list(relationship)} repeats relationships[{first}]"
                )
        object.__setattr__(self, "objects", objects)
        object.__setattr__(self, "relationships", tuple(relationships))

    @classmethod
    def null(cls) -> SceneGraph:
        """Return the graph that says nothing."""
        return cls(objects=(), relationships=())

    @property
    def is_null(self) -> bool:
        """Whether the graph states no relationship (it may still have objects)."""
        return not self.relationships

    @classmethod
    def parse(cls, text: str) -> SceneGraph:
        """Read the text form: "man, riding, horse; man, wearing, hat".

        Names that are equal without regard to case are one object; ``dog#2`` is another dog, whose
        name is "dog" (``dog`` is ``dog#1``). ``(tree)`` between the semicolons is an object without
        a relationship. Objects stand in the order in which they are first mentioned, and those of
        one name among themselves by their numbers, whichever of them is mentioned first. An
        empty text is the null graph; one semicolon at the end is allowed. A statement that repeats
        an earlier one, in its words or in others, is merged with it.

        Raises:
            SceneGraphError: on anything else; the message names the statement.
        """
        return read_text(text).graph

    @classmethod
    def from_json(cls, obj: object) -> SceneGraph:
        """Read sg2im's form: ``{"objects": ["man", "hat"], "relationships": [[0, "wears", 1]]}``.

        A statement that repeats an earlier one, in its words or in others, is merged with it; a
        relation of an object to itself is left out.

        Raises:
            SceneGraphError: if ``obj`` is not of that form; the message names the entry.
        """
        return read_json(obj).graph

    def to_json(self) -> dict[str, Any]:
        """Return sg2im's form in fresh lists; :meth:`from_json` reads it back to an equal graph."""
        return {
            "objects": list(self.objects),
            "relationships": [list(relationship) for relationship in self.relationships],
        }

    def labels(self) -> tuple[str, ...]:
        """Return the objects' names, with ``#2``, ``#3`` ... on the later ones of equal names."""
        seen: dict[str, int] = {}
        labels = []
        for name in self.objects:
            seen[name.casefold()] = count = seen.get(name.casefold(), 0) + 1
            labels.append(name if count == 1 else f"{name}#{count}")
        return tuple(labels)

    def to_text(self) -> str:
        """Return the text form; :meth:`parse` reads it back to an equal graph.

        Raises:
            SceneGraphError: if a word has a ``,`` or ``;``, or a name starts with ``(``, ``[`` or
                ``{`` or ends like ``#2``: the text form has no way to write it.
        """
        for i, name in enumerate(self.objects):
            if any(mark in name for mark in ",;") or name[0] in "([{" or _NUMBERED.fullmatch(name):
                raise SceneGraphError(f"objects[{i}] = {name!r} has no text form; use JSON")
        labels = self.labels()
        names = [name.casefold() for name in self.objects]
        segments: list[str] = []
        left = list(range(len(names)))  # objects that no segment mentions so far

        def declare() -> None:
            name = names[len(names) - len(left)]
            first = next(index for index in left if names[index] == name)
            left.remove(first)
            segments.append(f"({labels[first]})")

        for i, (subject, predicate, object_) in enumerate(self.relationships):
            if any(mark in predicate for mark in ",;"):
                raise SceneGraphError(
                    f"relationships[{i}] has the predicate {predicate!r}, which has no text form; "
                    "use JSON"
                )
            # Parsing gives the objects the order in which their names are mentioned: one whose
            # name would come too early has to be preceded by the objects before it.
            while new := [index for index in (subject, object_) if index in left]:
                place = len(names) - len(left)
                if [names[index] for index in new] == names[place : place + len(new)]:
                    break
                declare()
            segments.append(f"{labels[subject]}, {predicate}, {labels[object_]}")
            left = [index for index in left if index not in new]
        while left:
            declare()
        return "; ".join(segments)

    def triples(self) -> tuple[Triple, ...]:
        """Return the relationships in words (names without ``#2``), in order."""
        return tuple(
            Triple(self.objects[subject], predicate, self.objects[object_])
            for subject, predicate, object_ in self.relationships
        )

    def labelled_triples(self) -> tuple[Triple, ...]:
        """Return the relationships in words, with the objects' :meth:`labels`, in order."""
        labels = self.labels()
        return tuple(
            Triple(labels[subject], predicate, labels[object_])
            for subject, predicate, object_ in self.relationships
        )

    @classmethod
    def from_triples(cls, triples: Iterable[Triple]) -> SceneGraph:
        """Make one graph of several triples; equal names (in any case) are one object.

        ``dog#2`` is another dog, as in :meth:`parse`. A triple that relates a name to itself is
        about two objects of that name, the second one being its ``#2``. A triple that repeats an
        earlier one, in its words or in others, is merged with it.

        Raises:
            SceneGraphError: if an entry is no :class:`Triple`, or a name is malformed.
        """
        builder = _Builder()
        for i, triple in enumerate(triples):
            builder.add(triple, f"triples[{i}]")
        builder.order_by_number()
        return builder.reading(DEFAULT_VOCABULARY).graph

    @classmethod
    def from_triple(cls, triple: Triple) -> SceneGraph:
        """Make the graph of one triple: object 0 is the subject, 1 the object, whatever the names.

        Raises:
            SceneGraphError: as :meth:`from_triples`.
        """
        builder = _Builder()
        builder.add(triple, "triples[0]")
        return builder.reading(DEFAULT_VOCABULARY).graph


@dataclass(frozen=True)
class Reading:
    """A graph that was read, and what reading it merged and left out.

    Attributes:
        graph: Graph with every statement once.
        written: All relationships as they were written.
        merged: Counts of the statements that the graph does not have.
    """

    graph: SceneGraph
    written: tuple[Relationship, ...]
    merged: Merged


def read_text(text: str, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY) -> Reading:
    """Read a graph's text form as :meth:`SceneGraph.parse`, and say what was merged.

    Raises:
        SceneGraphError: as :meth:`SceneGraph.parse`.
    """
    if not isinstance(text, str):
        raise SceneGraphError(f"a graph's text form must be a string, got {text!r}")
    if text.lstrip().startswith(("[", "{")):
        raise SceneGraphError(
            f"a graph's text form is like 'man, riding, horse; man, wearing, hat', "
            f"got what looks like JSON: {text!r}"
        )
    segments = [segment.strip(_LAYOUT) for segment in text.split(";")]
    if not segments[-1].strip():
        segments.pop()
    builder = _Builder()
    for number, segment in enumerate(segments, start=1):
        where = f"statement {number} ({segment!r})"
        if segment.startswith("(") and segment.endswith(")") and "," not in segment:
            builder.index(segment[1:-1].strip(_LAYOUT), where)
            continue
        parts = [part.strip(_LAYOUT) for part in segment.split(",")]
        if len(parts) != 3:
            raise SceneGraphError(
                f"{where}: expected 'subject, predicate, object' "
                f"(or '(object)' for an object alone), got {len(parts)} part(s)"
            )
        subject, object_ = builder.index(parts[0], where), builder.index(parts[2], where)
        if subject == object_:
            raise SceneGraphError(
                f"{where}: relates {parts[0]!r} to itself; write "
                f"'{builder.names[subject]}#2' for another {builder.names[subject]}"
            )
        predicate = checked_name(parts[1], f"{where}: the predicate")
        builder.relationships.append((subject, predicate, object_))
    builder.order_by_number()
    return builder.reading(vocabulary)


def read_json(
    obj: object,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    *,
    is_preferred: Callable[[Relationship], bool] | None = None,
) -> Reading:
    """Read sg2im's form as :meth:`SceneGraph.from_json`, and say what was merged and left out.

    Args:
        obj: Parsed JSON.
        vocabulary: Vocabulary that says which statements are the same.
        is_preferred: Whether a wording takes the place of an earlier one of the same statement.

    Raises:
        SceneGraphError: as :meth:`SceneGraph.from_json`.
    """
    if not isinstance(obj, Mapping):
        raise SceneGraphError(
            f'a graph must be {{"objects": [...], "relationships": [...]}}, got {obj!r}'
        )
    fields = {"objects", "relationships"}
    if set(obj) != fields:
        missing, unknown = sorted(fields - set(obj)), sorted(map(str, set(obj) - fields))
        raise SceneGraphError(
            "a graph has exactly the fields 'objects' and 'relationships'; "
            f"missing {missing}, unknown {unknown}"
        )
    objects = SceneGraph(objects=obj["objects"], relationships=()).objects
    names = {name.casefold() for name in objects}
    for i, name in enumerate(objects):
        if _LABEL.fullmatch(name) and name_of_label(name).casefold() in names:
            raise SceneGraphError(
                f"objects[{i}] = {name!r}: in JSON, another {name_of_label(name)} has the same "
                "name; relationships tell the two apart by their numbers"
            )
    entries = [
        checked_relationship(entry, f"relationships[{i}]", len(objects), self_related=True)
        for i, entry in enumerate(_entries(obj["relationships"], "relationships"))
    ]
    return _reading(objects, entries, vocabulary, is_preferred=is_preferred)


def _reading(
    objects: Sequence[str],
    written: Sequence[Relationship],
    vocabulary: PredicateVocabulary,
    *,
    is_preferred: Callable[[Relationship], bool] | None = None,
) -> Reading:
    found = merged(written, vocabulary, is_preferred=is_preferred)
    graph = SceneGraph(objects=tuple(objects), relationships=found.relationships)
    return Reading(graph=graph, written=tuple(written), merged=found)


class _Builder:
    """Numbers objects by label while triples come in."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[tuple[str, int], int] = {}
        self.relationships: list[Relationship] = []

    def index(self, label: str, where: str) -> int:
        """Return the index of the object that ``label`` means, a new one if it is new."""
        label = checked_name(label, f"{where}: an object's name")
        numbered = _NUMBERED.fullmatch(label)
        name = name_of_label(label)
        number = int(numbered["number"]) if numbered else 1
        if not name or name.startswith("(") or number < 1 or _NUMBERED.fullmatch(name):
            raise SceneGraphError(
                f"{where}: {label!r} names no object; expected a name, or a name and a number "
                "from 1 up as in 'dog#2'"
            )
        key = (name.casefold(), number)
        if key not in self.numbers:
            self.numbers[key] = len(self.names)
            self.names.append(name)
        return self.numbers[key]

    def add(self, triple: Triple, where: str) -> None:
        """Add a triple; a name that it relates to itself is another object the second time."""
        if not isinstance(triple, Triple):
            raise SceneGraphError(f"{where} must be a Triple, got {triple!r}")
        subject, object_ = self.index(triple.subject, where), self.index(triple.object, where)
        if subject == object_:
            name, number = list(self.numbers)[subject]
            object_ = self.index(f"{name}#{2 if number == 1 else 1}", where)
        self.relationships.append((subject, triple.predicate, object_))

    def order_by_number(self) -> None:
        """Put objects of one name in the order of their numbers, once all are added.

        :meth:`SceneGraph.labels` gives them numbers by their order, and a box of "dog#2" is for the
        dog that the text calls so, even if the text mentions it before "dog".
        """
        places: dict[str, list[int]] = {}
        for (name, _), index in self.numbers.items():
            places.setdefault(name, []).append(index)
        free = {name: iter(indices) for name, indices in places.items()}
        moved = {self.numbers[key]: next(free[key[0]]) for key in sorted(self.numbers)}
        names = list(self.names)
        for before, after in moved.items():
            self.names[after] = names[before]
        self.relationships = [
            (moved[subject], predicate, moved[object_])
            for subject, predicate, object_ in self.relationships
        ]

    def reading(self, vocabulary: PredicateVocabulary) -> Reading:
        """Return what was added, each statement once."""
        return _reading(self.names, self.relationships, vocabulary)


def _entries(value: object, where: str) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise SceneGraphError(f"{where} must be a list, got {value!r}")
    return value


def checked_relationship(
    entry: object, where: str, num_objects: int, *, self_related: bool = False
) -> Relationship:
    """Return the entry as a clean (subject index, predicate, object index).

    Args:
        entry: The value that was read.
        where: Beginning of the error message.
        num_objects: Number of the graph's objects.
        self_related: Whether an object may be related to itself.

    Raises:
        SceneGraphError: if it is not one of a graph with ``num_objects`` objects; the message
            starts with ``where``.
    """
    if isinstance(entry, str) or not isinstance(entry, Sequence) or len(entry) != 3:
        raise SceneGraphError(
            f"{where} must be [subject index, predicate, object index], got {entry!r}"
        )
    indices = []
    for position, role in ((0, "subject"), (2, "object")):
        value = entry[position]
        try:
            if isinstance(value, bool):
                raise TypeError
            index = operator.index(value)
        except TypeError:
            raise SceneGraphError(f"{where}: the {role} must be an index, got {value!r}") from None
        if not 0 <= index < num_objects:
            raise SceneGraphError(
                f"{where}: the {role} index {index} is not among the {num_objects} objects "
                f"(0 to {num_objects - 1})"
                if num_objects
                else f"{where}: the {role} index {index}, but the graph has no objects"
            )
        indices.append(index)
    subject, object_ = indices
    if subject == object_ and not self_related:
        raise SceneGraphError(f"{where} = {list(entry)!r} relates object {subject} to itself")
    return subject, checked_name(entry[1], f"{where}: the predicate"), object_
