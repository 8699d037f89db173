"""What is true of a picture, by name, and what may be.

Names are compared, not indices, since a picture of "a man on a horse" does not say which man; in
what is known beside the graph, words that may name the same thing (man, person) count as the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sgflux.graphs.closure import closure, implied
from sgflux.graphs.entailments import (
    conversely_entailed,
    entailed,
    is_same_name,
    may_be_same_thing,
)
from sgflux.graphs.merging import Relationship, canonical_statement
from sgflux.graphs.predicates import PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph


@dataclass(frozen=True)
class Fact:
    """A statement by name, as written: equal names of different objects are not told apart."""

    subject: str
    predicate: str
    object: str


class Facts:
    """What a graph states of its picture, what follows from that, and what else is known of it."""

    def __init__(
        self, graph: SceneGraph, *, vocabulary: PredicateVocabulary, known: SceneGraph | None
    ) -> None:
        """Read the statements.

        Args:
            graph: True graph.
            vocabulary: Vocabulary that says which statements are the same.
            known: Further true statements of the picture; may repeat ``graph``.
        """
        self._implied_by: dict[Fact, list[Fact]] = {}
        self.graph = graph
        self.vocabulary = vocabulary
        self.own = [self.fact(graph, entry) for entry in graph.relationships]
        self.concluded = self._concluded(graph.relationships)
        others = [] if known is None else [self.fact(known, e) for e in known.relationships]
        self.others = [fact for fact in dict.fromkeys(others) if fact not in self.own]

    def fact(self, graph: SceneGraph, entry: Relationship) -> Fact:
        """Return the relationship of a graph by name."""
        subject, predicate, object_ = entry
        return Fact(
            graph.objects[subject].casefold(),
            self.vocabulary.normalize(predicate),
            graph.objects[object_].casefold(),
        )

    def may_be_stated(self, graph: SceneGraph, entry: Relationship) -> bool:
        """Whether another graph's relationship may be true of the picture."""
        claim = self.fact(graph, entry)
        if self.may_be_true(claim, replaces=None):
            return True
        if claim.predicate in self.vocabulary:
            return False
        # Of two words that nobody knows, "drinking from" and "drinking out of", what both entail is
        # all that can be compared.
        said = {
            one for one in self._implied(claim) if not self.vocabulary.is_symmetric(one.predicate)
        }
        return any(not said.isdisjoint(self._implied(fact)) for fact in (*self.own, *self.others))

    def may_be_true(self, changed: Fact, *, replaces: Fact | None) -> bool:
        """Whether a statement may be true of the picture.

        Args:
            changed: The statement.
            replaces: Statement of the graph in whose place it would stand; None: it is another one.
        """
        claim = self._oriented(changed)
        if any(self._entails(fact, claim, is_same_name) for fact in (*self.own, *self.concluded)):
            return True
        if any(self._entails(fact, claim, may_be_same_thing) for fact in self.others):
            return True
        # The other direction: where "man on horse" is true, so may be "man riding horse". For the
        # symmetric predicates that is asked of the replaced statement only, since "near" is
        # entailed by half the table and says nothing about the rest of it.
        return any(
            self._oriented(fact) in self._implied(changed)
            for fact in (*self.own, *self.concluded, *self.others)
            if fact == replaces or not self.vocabulary.is_symmetric(fact.predicate)
        )

    def follows_from_others(self, index: int) -> bool:
        """Whether a relationship of the graph, by its index, follows from its other ones."""
        stated, claim = self.graph.relationships, self._oriented(self.own[index])
        rest = self.own[:index] + self.own[index + 1 :]
        concluded = self._concluded(stated[:index] + stated[index + 1 :])
        return any(self._entails(other, claim, is_same_name) for other in (*rest, *concluded))

    def _concluded(self, entries: Sequence[Relationship]) -> list[Fact]:
        """Return what follows from several of the relationships and from none alone, by name."""
        alone = {one for entry in entries for one in implied(entry, self.vocabulary)}
        names = [name.casefold() for name in self.graph.objects]
        return [
            Fact(names[subject], predicate, names[object_])
            for subject, predicate, object_ in sorted(closure(entries, self.vocabulary) - alone)
        ]

    def _entails(self, premise: Fact, conclusion: Fact, same: Callable[[str, str], bool]) -> bool:
        """Whether an (oriented) conclusion follows, nouns being compared with ``same``."""
        return any(
            fact.predicate == conclusion.predicate
            and same(fact.subject, conclusion.subject)
            and same(fact.object, conclusion.object)
            for fact in self._implied(premise)
        )

    def _implied(self, fact: Fact) -> list[Fact]:
        """Return the fact and all that it entails, oriented; symmetric ones both ways round."""
        if fact not in self._implied_by:
            implied: list[Fact] = []
            there = (fact.predicate, *entailed(fact.predicate, self.vocabulary))
            back = conversely_entailed(fact.predicate, self.vocabulary)
            claims = [Fact(fact.subject, predicate, fact.object) for predicate in there]
            claims += [Fact(fact.object, predicate, fact.subject) for predicate in back]
            for claim in claims:
                implied.append(self._oriented(claim))
                if self.vocabulary.is_symmetric(claim.predicate):
                    implied.append(Fact(claim.object, claim.predicate, claim.subject))
            self._implied_by[fact] = implied
        return self._implied_by[fact]

    def _oriented(self, fact: Fact) -> Fact:
        """Return the same one of two inverse wordings."""
        sides = (fact.subject, fact.object)
        subject, predicate, object_ = canonical_statement(0, fact.predicate, 1, self.vocabulary)
        return Fact(sides[subject], predicate, sides[object_])
