"""What relationships say and entail, alone and together, of objects by index."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from sgflux.graphs.entailments import ORDERED, TRANSITIVE, conversely_entailed, entailed
from sgflux.graphs.merging import Relationship, canonical_statement
from sgflux.graphs.predicates import PredicateVocabulary


def implied(entry: Relationship, vocabulary: PredicateVocabulary) -> list[Relationship]:
    """Return what one relationship says, then what it entails, in canonical form."""
    subject, predicate, object_ = entry
    word = vocabulary.normalize(predicate)
    said = [(subject, one, object_) for one in (word, *entailed(word, vocabulary))]
    said += [(object_, one, subject) for one in conversely_entailed(word, vocabulary)]
    return [canonical_statement(*one, vocabulary) for one in said]


def closure(entries: Iterable[Relationship], vocabulary: PredicateVocabulary) -> set[Relationship]:
    """Return all that relationships say and entail together, in canonical form.

    What is left of something that is left of a third thing is left of the third one, too.
    """
    found = {one for entry in entries for one in implied(entry, vocabulary)}
    while True:
        after: dict[tuple[int, str], list[int]] = {}
        for first, predicate, last in found:
            if predicate in TRANSITIVE:
                after.setdefault((first, predicate), []).append(last)
        further = {
            (first, predicate, last)
            for (first, predicate), middles in after.items()
            for middle in middles
            for last in after.get((middle, predicate), ())
            if last != first
        }
        if further <= found:
            return found
        found |= further


class Truth:
    """What may hold of a picture in which some relationships do."""

    def __init__(self, entries: Sequence[Relationship], vocabulary: PredicateVocabulary) -> None:
        """Draw all conclusions from the relationships."""
        self._vocabulary = vocabulary
        self._true = closure(entries, vocabulary)
        alone = {one for entry in entries for one in implied(entry, vocabulary)}
        own = {canonical_statement(*one, vocabulary) for one in entries}
        # "Near" is entailed by half of all predicates, and says little about which one holds.
        self._less = {
            one for one in own | self._true - alone if not vocabulary.is_symmetric(one[1])
        }
        self._answers: dict[Relationship, bool] = {}

    def may_hold(self, subject: int, predicate: str, object_: int) -> bool:
        """Whether a relationship follows, or says more than one that holds.

        Where "man on horse" is true, so may be "man riding horse".
        """
        claim = (subject, predicate, object_)
        if claim not in self._answers:
            says, *_ = follows = implied(claim, self._vocabulary)
            self._answers[claim] = says in self._true or not self._less.isdisjoint(follows)
        return self._answers[claim]


def orders_of(
    one: int, other: int, entries: Iterable[Relationship], vocabulary: PredicateVocabulary
) -> Iterator[tuple[Relationship, ...]]:
    """Yield every way in which two objects may stand to each other, as far as it matters.

    Of two dogs one is further left. Whichever it is, it is left of all that any of them is left of:
    what holds in every order holds of every picture.
    """
    used = {predicate for entry in entries for _, predicate, _ in implied(entry, vocabulary)}
    for way in itertools.product(((one, other), (other, one)), repeat=len(used & ORDERED)):
        yield tuple(
            (first, predicate, second)
            for predicate, (first, second) in zip(sorted(used & ORDERED), way, strict=True)
        )
