"""Typed negatives: a graph with exactly one relationship made false, or left out.

"Typed" means that the caller knows what was changed. A changed statement is checked against what
is true of the image (:mod:`sgflux.graphs.facts`): the graph's own relationships, what follows from
several of them (left of what is left of something) and, where the image has more, ``known``. Only a
statement that is moved from one of two men to the other says nothing new by name: there the graphs
as wholes are compared. What the annotation does not mention may still be true: a limit of every
negative built from an annotation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sgflux.errors import SgfluxError
from sgflux.graphs.closure import Truth, orders_of
from sgflux.graphs.entailments import may_be_same_thing
from sgflux.graphs.facts import Fact, Facts
from sgflux.graphs.merging import Relationship, canonical_statement
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.graphs.twins import can_all_hold


class NegativeKind(StrEnum):
    """Kind of change to one relationship."""

    ROLE_SWAP = "role_swap"
    """Subject and object change places; only for predicates known as asymmetric."""
    INVERSE = "inverse"
    """The predicate becomes its inverse; only for predicates that have one."""
    PREDICATE = "predicate"
    """The predicate becomes any other one, all equally likely."""
    HARD_PREDICATE = "hard_predicate"
    """The predicate becomes one that a model confuses it with, as likely as ``confusion`` says."""
    OBJECT = "object"
    """Subject or object becomes another thing, which is in neither the graph nor ``known``."""
    EDGE_DROP = "edge_drop"
    """The relationship is left out (its objects stay); only where another one is left.

    Less than the truth is still true of the image, so this kind is exempt from that check; it is
    only made sure that the remaining relationships do not entail the one left out.
    """
    MOVED_TWIN = "moved_twin"
    """The relationship is said of another object of the same name: of "dog#2" in place of "dog".

    The whole graph then states something else, whichever of the objects is called the first.
    """


@dataclass(frozen=True)
class Negative:
    """A false graph, and the change that made it false.

    Attributes:
        graph: False graph, g-.
        kind: Kind of the change.
        index: Index of the changed relationship in the original graph; for all kinds but
            ``EDGE_DROP`` also in ``graph``.
        description: Change in words, "man, riding, horse -> horse, riding, man".
    """

    graph: SceneGraph
    kind: NegativeKind
    index: int
    description: str


class NegativeUnavailableError(SgfluxError):
    """The graph has no negative of the kind asked for; the message says why."""


def roles_swapped(
    graph: SceneGraph, vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> SceneGraph | None:
    """Return the graph with subject and object of every relationship exchanged.

    A relationship with a symmetric predicate stays as it is.

    Returns:
        The other graph; None if it states the same: no relationship changes, or only who of two
        objects of one name is called the first.
    """
    relationships = tuple(
        (s, predicate, o) if vocabulary.is_symmetric(predicate) else (o, predicate, s)
        for s, predicate, o in graph.relationships
    )
    own = {canonical_statement(*entry, vocabulary) for entry in graph.relationships}

    def holds(subject: int, predicate: str, object_: int) -> bool:
        return canonical_statement(subject, predicate, object_, vocabulary) in own

    if can_all_hold(graph.objects, relationships, holds):
        return None
    return SceneGraph(objects=graph.objects, relationships=relationships)


class Negatives:
    """The negatives that can be made of one graph."""

    def __init__(
        self,
        graph: SceneGraph,
        *,
        vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
        known: SceneGraph | None = None,
        predicates: Sequence[str] | None = None,
        object_names: Sequence[str] = (),
        confusion: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Read what is true of the graph's picture, and what may take the place of its parts.

        Args:
            graph: True graph.
            vocabulary: Vocabulary that says which statements are the same.
            known: Further true statements of the image, compared by name; may repeat ``graph``.
            predicates: Possible replacements of a predicate; None means the whole vocabulary. Give
                ``CGIP_PREDICATES`` where the encoder knows no others. Does not concern ``INVERSE``.
            object_names: Possible replacements of a subject or object.
            confusion: True predicate -> replacement -> weight >= 0, for ``HARD_PREDICATE``.

        Raises:
            UnknownPredicateError: if ``predicates`` or ``confusion`` has a word not in
                ``vocabulary``.
            SgfluxError: on a malformed weight in ``confusion``.
        """
        self.graph = graph
        self.vocabulary = vocabulary
        names = vocabulary.names if predicates is None else predicates
        # A dict keeps the order and drops aliases of one predicate; a set would lose determinism.
        self.predicates = dict.fromkeys(vocabulary.canonical(name) for name in names)
        self.object_names = tuple(dict.fromkeys(object_names))
        self.confusion = None if confusion is None else _canonical_weights(confusion, vocabulary)
        self.facts = Facts(graph, vocabulary=vocabulary, known=known)
        self._moves: dict[int, list[Relationship]] = {}
        self.named = tuple(dict.fromkeys((*graph.objects, *(known.objects if known else ()))))

    def draw(
        self, rng: random.Random, kind: NegativeKind | Mapping[NegativeKind, float] | None = None
    ) -> Negative:
        """Draw one negative; equal arguments and an equally seeded ``rng`` give an equal one.

        Args:
            rng: Only source of randomness.
            kind: Kind, or weights of kinds (those unavailable for this graph drop out, the others
                keep their proportions), or None for all available kinds with equal weights.

        Raises:
            NegativeUnavailableError: if the graph has no negative of these kinds.
            SgfluxError: if ``kind`` asks for ``OBJECT`` without ``object_names`` or for
                ``HARD_PREDICATE`` without ``confusion``; on a malformed weight.
        """
        return self._make(self._weights(kind), rng)

    def draw_several(
        self,
        n: int,
        rng: random.Random,
        kind: NegativeKind | Mapping[NegativeKind, float] | None = None,
    ) -> tuple[Negative, ...]:
        """Draw ``n`` negatives independently, so that they may repeat, as :meth:`draw`."""
        weights = self._weights(kind)
        return tuple(self._make(weights, rng) for _ in range(n))

    def kinds(self) -> tuple[NegativeKind, ...]:
        """Return the kinds of which there is a negative, in the order of the enum."""
        return tuple(
            kind
            for kind in NegativeKind
            if any(
                next(self._candidates(kind, i), None) for i in range(len(self.graph.relationships))
            )
        )

    def may_be_true(self, graph: SceneGraph) -> bool:
        """Whether all that another graph states may be true of this one's picture."""
        return all(self.facts.may_be_stated(graph, entry) for entry in graph.relationships)

    def _weights(
        self, kind: NegativeKind | Mapping[NegativeKind, float] | None
    ) -> dict[NegativeKind, float]:
        """Return the kinds to draw from; the settings that they need are checked."""
        if kind is None:
            weights = dict.fromkeys(NegativeKind, 1.0)
            if not self.object_names:
                del weights[NegativeKind.OBJECT]
            if self.confusion is None:
                del weights[NegativeKind.HARD_PREDICATE]
            return weights
        given = kind if isinstance(kind, Mapping) else {kind: 1.0}
        weights = {}
        for key, weight in given.items():
            if key not in list(NegativeKind):
                expected = ", ".join(repr(str(known)) for known in NegativeKind)
                raise SgfluxError(f"kind of negative must be one of {expected}, got {key!r}")
            weights[NegativeKind(key)] = _weight(weight, f"the kind {str(key)!r}")
        weights = {key: weight for key, weight in weights.items() if weight > 0}
        if not weights:
            raise SgfluxError(f"at least one kind of negative needs a weight > 0, got {given!r}")
        if NegativeKind.OBJECT in weights and not self.object_names:
            raise SgfluxError("negatives of kind 'object' need object_names, which is empty")
        if NegativeKind.HARD_PREDICATE in weights and self.confusion is None:
            raise SgfluxError("negatives of kind 'hard_predicate' need confusion, which is None")
        return weights

    def _make(self, weights: Mapping[NegativeKind, float], rng: random.Random) -> Negative:
        remaining = dict(weights)
        while remaining:
            (kind,) = rng.choices(list(remaining), weights=list(remaining.values()))
            del remaining[kind]
            indices = list(range(len(self.graph.relationships)))
            rng.shuffle(indices)
            for index in indices:
                candidates = list(self._candidates(kind, index))
                if candidates:
                    (entry,) = rng.choices(
                        [candidate for candidate, _ in candidates],
                        weights=[weight for _, weight in candidates],
                    )
                    return self._negative(kind, index, entry)
        if self.graph.is_null:
            raise NegativeUnavailableError("a graph without relationships has no negative")
        reasons = "; ".join(f"{kind}: {_WHY_NOT[kind]}" for kind in weights)
        stated = "; ".join(map(str, self.graph.triples()))
        raise NegativeUnavailableError(f"no negative of {stated!r}: {reasons}")

    def _candidates(
        self, kind: NegativeKind, index: int
    ) -> Iterator[tuple[Fact | Relationship | None, float]]:
        """Yield replacements of the relationship ``index`` (None: drop it), with weights."""
        if kind is NegativeKind.EDGE_DROP:
            is_alone = len(self.graph.relationships) == 1
            if not is_alone and not self.facts.follows_from_others(index):
                yield None, 1.0
            return
        if kind is NegativeKind.MOVED_TWIN:
            if index not in self._moves:
                self._moves[index] = list(self._moved(index))
            yield from ((entry, 1.0) for entry in self._moves[index])
            return
        fact = self.facts.own[index]
        for changed, weight in self._changes(kind, fact):
            # A new object has a name that nothing true is about: no need to look (and thousands
            # of names would make that slow).
            if kind is NegativeKind.OBJECT or not self.facts.may_be_true(changed, replaces=fact):
                yield changed, weight

    def _changes(self, kind: NegativeKind, fact: Fact) -> Iterator[tuple[Fact, float]]:
        if kind is NegativeKind.ROLE_SWAP:
            if self.vocabulary.is_asymmetric(fact.predicate):
                yield Fact(fact.object, fact.predicate, fact.subject), 1.0
        elif kind is NegativeKind.INVERSE:
            inverse = self.vocabulary.inverse(fact.predicate)
            if inverse is not None:
                yield Fact(fact.subject, inverse, fact.object), 1.0
        elif kind is NegativeKind.OBJECT:
            for name in self.object_names:
                if not any(may_be_same_thing(name, taken) for taken in self.named):
                    yield Fact(name, fact.predicate, fact.object), 1.0
                    yield Fact(fact.subject, fact.predicate, name), 1.0
        else:
            hard = kind is NegativeKind.HARD_PREDICATE
            weights = (self.confusion or {}).get(fact.predicate, {}) if hard else {}
            for name in self.predicates:
                weight = weights.get(name, 0.0) if hard else 1.0
                if name != fact.predicate and weight > 0:
                    yield Fact(fact.subject, name, fact.object), weight

    def _moved(self, index: int) -> Iterator[Relationship]:
        """Yield the relationship, said of other objects of one of its two names, where false."""
        names = [name.casefold() for name in self.graph.objects]
        entries = self.graph.relationships
        subject, predicate, object_ = entries[index]
        for moved in (subject, object_):
            for twin, name in enumerate(names):
                if name != names[moved] or twin in (subject, object_):
                    continue
                at = {subject: subject, object_: object_, moved: twin}
                entry = (at[subject], predicate, at[object_])
                claims = [entry, *entries[:index], *entries[index + 1 :]]
                if not all(
                    can_all_hold(names, claims, Truth((*entries, *order), self.vocabulary).may_hold)
                    for order in orders_of(moved, twin, entries, self.vocabulary)
                ):
                    yield entry

    def _negative(
        self, kind: NegativeKind, index: int, changed: Fact | Relationship | None
    ) -> Negative:
        objects = list(self.graph.objects)
        entries = list(self.graph.relationships)
        subject, predicate, object_ = entries[index]
        before = f"{objects[subject]}, {predicate}, {objects[object_]}"
        if changed is None:
            del entries[index]
            description = f"{before} -> left out"
        elif not isinstance(changed, Fact):
            entries[index] = changed
            labels = self.graph.labels()
            description = " -> ".join(
                f"{labels[s]}, {said}, {labels[o]}"
                for s, said, o in (self.graph.relationships[index], changed)
            )
        else:
            fact = self.facts.own[index]
            if kind is NegativeKind.ROLE_SWAP:
                entries[index] = (object_, predicate, subject)
            elif kind is not NegativeKind.OBJECT:
                entries[index] = (subject, changed.predicate, object_)
            elif changed.subject != fact.subject:
                new = self._place(objects, subject, changed.subject)
                entries[index] = (new, predicate, object_)
            else:
                new = self._place(objects, object_, changed.object)
                entries[index] = (subject, predicate, new)
            subject, predicate, object_ = entries[index]
            description = f"{before} -> {objects[subject]}, {predicate}, {objects[object_]}"
        graph = SceneGraph(objects=tuple(objects), relationships=tuple(entries))
        return Negative(graph=graph, kind=kind, index=index, description=description)

    def _place(self, objects: list[str], index: int, name: str) -> int:
        """Rename an object of one relationship only; else add one, so that only one changes."""
        uses = sum(index in (entry[0], entry[2]) for entry in self.graph.relationships)
        if uses == 1:
            objects[index] = name
            return index
        objects.append(name)
        return len(objects) - 1


_WHY_NOT: Mapping[NegativeKind, str] = {
    NegativeKind.ROLE_SWAP: "no predicate is known as asymmetric with the swap not known as true",
    NegativeKind.INVERSE: "no predicate has an inverse that is not known as true",
    NegativeKind.PREDICATE: "every replacement is, or may be, true of the image",
    NegativeKind.HARD_PREDICATE: "no confusion has a weight > 0 and is not true of the image",
    NegativeKind.OBJECT: "every object name is in the graph or in known, or may mean what is",
    NegativeKind.EDGE_DROP: "needs a relationship that the remaining ones do not entail",
    NegativeKind.MOVED_TWIN: "needs a relationship that is false of another object of one name",
}


def _weight(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
        raise SgfluxError(f"the weight of {where} must be a finite number >= 0, got {value!r}")
    return float(value)


def _canonical_weights(
    confusion: Mapping[str, Mapping[str, float]], vocabulary: PredicateVocabulary
) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for true, row in confusion.items():
        weights = table.setdefault(vocabulary.canonical(true), {})
        for name, value in row.items():
            canonical = vocabulary.canonical(name)
            weight = _weight(value, f"the confusion {true!r} -> {name!r}")
            weights[canonical] = weights.get(canonical, 0.0) + weight
    return table
