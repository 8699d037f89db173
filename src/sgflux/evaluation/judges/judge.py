"""What a judge is: it says of statements about pictures whether they hold.

A judge answers for one statement at a time, with one of three verdicts. Before it judges generated
pictures it is asked about real ones, whose relations are known: no figure means more than its
judge's own accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple, name_of_label

NONE = "none"
"""What a judge names where it sees no relation from the subject to the object."""


Images = np.ndarray | Sequence[np.ndarray]
"""N pictures, (H, W, 3) uint8 each, as one array or in a list."""


class Outcome(StrEnum):
    """The three verdicts on a statement about a picture."""

    HOLDS = "holds"
    CONTRADICTED = "contradicted"
    """Both objects are in the picture, and the relation between them is not the stated one."""
    NOT_FOUND = "not found"
    """The statement does not hold, since the judge does not find one of its objects."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one statement.

    Attributes:
        outcome: one of the three verdicts.
        relation: the predicate that the judge itself names from the subject to the object, or
            "none"; None for a judge that names no predicates.
        score: Likelihood that the judge gives the statement, for comparisons within one picture: a
            log-probability, or any number that grows with it; None for a judge without scores.
    """

    outcome: Outcome
    relation: str | None = None
    score: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the outcome is that the statement holds."""
        return self.outcome is Outcome.HOLDS


@dataclass(frozen=True)
class Reading:
    """What a judge says of one picture.

    Attributes:
        verdicts: statement -> the verdict on it.
        present: Names and labels of the objects that the judge finds, in lower case; None for a
            judge that does not look for objects.
        evidence: Further facts about the picture that ``results.jsonl`` keeps, as plain JSON.
    """

    verdicts: Mapping[Triple, Verdict]
    present: frozenset[str] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def is_right(self, triple: Triple) -> bool:
        """Whether the statement holds."""
        return self.verdicts[triple].holds

    def preference(self, statement: Triple, other: Triple) -> float:
        """Return 1 if ``statement`` is more likely than ``other``, 0 if less, 1/2 on a tie.

        A judge without scores prefers a statement that holds to one that does not.
        """
        first, second = self.verdicts[statement], self.verdicts[other]
        gap: float = first.holds - second.holds
        if first.score is not None and second.score is not None:
            gap = first.score - second.score
        return 0.5 + 0.5 * float(np.sign(gap))

    def has_all(self, names: Iterable[str]) -> bool:
        """Whether the judge finds every one of these objects."""
        present = self.present or ()
        return all(name.casefold() in present for name in names)

    def finds(self, triple: Triple) -> bool:
        """Whether the judge finds the statement's subject and object."""
        if self.present is None:
            return self.verdicts[triple].outcome is not Outcome.NOT_FOUND
        return self.has_all((triple.subject, triple.object))


@dataclass(frozen=True)
class JudgeIdentity:
    """Who judged, as an evaluation's results have it.

    Attributes:
        name: the judge's name.
        sha256: SHA-256, in hex, of what decides the judge's verdicts: weights, and settings that
            are read with them; of a router, of the judges that it asks; None if it has none.
        model: Name of the network that the judge asks, such as a detector; None if it has no name.
        classes: names of what the judge's evidence scores, in order; () if it scores nothing.
        parts: the judges that a router asks; () for a single judge.
    """

    name: str
    sha256: str | None = None
    model: str | None = field(default=None, kw_only=True)
    classes: tuple[str, ...] = ()
    parts: tuple[JudgeIdentity, ...] = ()

    @property
    def key(self) -> tuple[str, str | None]:
        """What two judges share if they are one: name and weights, or the model's name without."""
        return self.name, self.sha256 or self.model

    def to_json(self) -> dict[str, Any]:
        """Return name, model and digest as plain JSON, and those of the judges that are asked."""
        own: dict[str, Any] = {"name": self.name, "model": self.model, "sha256": self.sha256}
        return own | ({"judges": [one.to_json() for one in self.parts]} if self.parts else {})


class Judge(Protocol):
    """Decides whether statements about pictures hold.

    Attributes:
        identity: says who judged.
    """

    identity: JudgeIdentity

    def covers(self, predicate: str) -> bool:
        """Whether the judge can decide about statements with this canonical predicate."""

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Refuse graphs that the judge would be wrong about; most judges refuse none.

        Raises:
            SgfluxError: naming the first object that the judge does not know.
        """

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> Sequence[Reading]:
        """Give a verdict on every statement.

        Args:
            images: N pictures, (H, W, 3) uint8; in a list, their sizes may differ.
            statements: Statements about each picture, whose predicates are covered. Objects are
                called by the labels of a graph: "dog" and "dog#2" are two dogs, which a judge tells
                apart by all statements of a list together, or refuses in :meth:`check`.

        Returns:
            N readings, each with a verdict on every statement of its picture.
        """


def pair_of(triple: Triple) -> tuple[str, str]:
    """Return the names of a statement's subject and object, in lower case."""
    return triple.subject.casefold(), triple.object.casefold()


def asked_of(graph: SceneGraph, is_asked: Callable[[str], bool]) -> SceneGraph:
    """Return a graph with the relationships alone that a judge is asked about, and all objects.

    Args:
        graph: graph whose statements are judged.
        is_asked: Whether the judge is asked about statements with a canonical predicate.
    """
    stated = [one for one in graph.relationships if is_asked(DEFAULT_VOCABULARY.normalize(one[1]))]
    return replace(graph, relationships=tuple(stated))


def refuse_equal_names(graphs: Iterable[SceneGraph], judge: str) -> None:
    """Refuse statements between two objects of one name, for a judge that knows names alone.

    Args:
        graphs: graphs that the judge is to be asked about.
        judge: the judge's name.

    Raises:
        SgfluxError: naming the first such statement.
    """
    for graph in graphs:
        for triple in graph.triples():
            if len(set(pair_of(triple))) == 1:
                raise SgfluxError(
                    f"the judge {judge!r} cannot tell the two objects of '{triple}' apart",
                    advice="; leave such graphs out, or use judge 'geometry' or 'none'",
                )


def without_numbers(triple: Triple) -> Triple:
    """Return a statement with names in place of labels: "dog" of "dog#2"."""
    subject, object_ = map(name_of_label, (triple.subject, triple.object))
    return Triple(subject, triple.predicate, object_)


def predicate_of(triple: Triple) -> str:
    """Return the statement's canonical predicate; an unknown word is its own."""
    return DEFAULT_VOCABULARY.normalize(triple.predicate)


def not_covered(judge: Judge, statements: Iterable[Triple]) -> Counter[str]:
    """Return predicate -> number of statements that the judge cannot decide about."""
    return Counter(name for name in map(predicate_of, statements) if not judge.covers(name))


def read_pictures(
    judge: Judge, images: Images, statements: Sequence[Sequence[Triple]]
) -> list[Reading]:
    """Ask a judge about every statement whose predicate it covers.

    Args:
        judge: the judge.
        images: N pictures, (H, W, 3) uint8.
        statements: Statements about each picture.

    Returns:
        N readings; a statement without a verdict is one that the judge does not cover.

    Raises:
        SgfluxError: if there are not as many lists of statements, or readings, as pictures, or the
            judge leaves out a statement that it covers.
    """
    if len(images) != len(statements):
        raise SgfluxError(f"{len(images)} pictures but lists of statements for {len(statements)}")
    asked = [
        [triple for triple in dict.fromkeys(own) if judge.covers(predicate_of(triple))]
        for own in statements
    ]
    readings = list(judge.read(images, asked))
    name = judge.identity.name
    if len(readings) != len(images):
        raise SgfluxError(f"judge {name!r} gave {len(readings)} readings of {len(images)} pictures")
    for own, reading in zip(asked, readings, strict=True):
        for triple in own:
            if triple not in reading.verdicts:
                raise SgfluxError(f"judge {name!r} gave no verdict on '{triple}'")
    return readings


def read_questions(
    judge: Judge, images: Images, questions: Sequence[Sequence[Sequence[Triple]]]
) -> list[Reading]:
    """Ask a judge several questions about each picture, each of which it judges for itself.

    Args:
        judge: the judge.
        images: N pictures, (H, W, 3) uint8.
        questions: N lists of questions; a question is a list of statements.

    Returns:
        N readings with the verdicts of all questions. The first question decides about a statement
        that stands in several, and its evidence is kept.

    Raises:
        SgfluxError: as :func:`read_pictures`.
    """
    pictures = list(images)
    asked = [(row, question) for row, own in enumerate(questions) for question in own]
    readings = read_pictures(
        judge, [pictures[row] for row, _ in asked], [question for _, question in asked]
    )
    merged: dict[int, Reading] = {}
    for (row, _), reading in zip(asked, readings, strict=True):
        first = merged.setdefault(row, reading)
        if first is not reading:
            merged[row] = replace(first, verdicts={**reading.verdicts, **first.verdicts})
    return [merged[row] for row in range(len(pictures))]
