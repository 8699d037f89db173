"""Merging of a graph's relationships: no statement twice, and no object related to itself.

Data sets repeat statements ("eating" twice, "near" and "beside" of the same two) and relate objects
to themselves. Neither is an error of a user's, and neither says anything: readers of data merge the
former, leave out the latter, and count both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sgflux.graphs.predicates import PredicateVocabulary

Relationship = tuple[int, str, int]
"""(subject index, predicate, object index)."""

Term = TypeVar("Term", int, str)


def canonical_statement(
    subject: Term, predicate: str, object_: Term, vocabulary: PredicateVocabulary
) -> tuple[Term, str, Term]:
    """Return the one form that a statement shares with all its rewritings.

    Aliases become canonical names; of two inverse predicates the alphabetically first is used; the
    two sides of a symmetric predicate are sorted. A word that is not in the vocabulary is only
    cleaned.

    Args:
        subject: Index or name of the subject; the same type as ``object_``.
        predicate: Predicate, which the vocabulary need not know.
        object_: Index or name of the object.
        vocabulary: Vocabulary that says which statements are the same.

    Returns:
        The statement; it holds of exactly what the given one holds of.
    """
    predicate = vocabulary.normalize(predicate)
    inverse = vocabulary.inverse(predicate)
    if inverse is not None and inverse < predicate:
        return object_, inverse, subject
    if vocabulary.is_symmetric(predicate) and object_ < subject:
        return object_, predicate, subject
    return subject, predicate, object_


@dataclass(frozen=True)
class Merged:
    """Relationships without repetition, and how many were left out.

    Attributes:
        relationships: Each statement once, in the words and at the place of its first mention.
        repeated: Number of statements left out because an earlier one says the same.
        self_related: Number of statements left out because they relate an object to itself.
    """

    relationships: tuple[Relationship, ...]
    repeated: int = 0
    self_related: int = 0


def merged(
    relationships: Iterable[Relationship],
    vocabulary: PredicateVocabulary,
    *,
    is_preferred: Callable[[Relationship], bool] | None = None,
) -> Merged:
    """Return the relationships with each statement once.

    Args:
        relationships: Statements as indices of objects with a predicate between them.
        vocabulary: Vocabulary that says which statements are the same.
        is_preferred: Whether a wording takes the place of an earlier one of the same statement.
    """
    kept: dict[tuple[int, str, int], Relationship] = {}
    repeated = self_related = 0
    for entry in relationships:
        if entry[0] == entry[2]:
            self_related += 1
            continue
        first = kept.setdefault(canonical_statement(*entry, vocabulary), entry)
        if first is not entry:
            repeated += 1
            if is_preferred is not None and is_preferred(entry) and not is_preferred(first):
                kept[canonical_statement(*entry, vocabulary)] = entry
    return Merged(tuple(kept.values()), repeated, self_related)


def merged_line(*, repeated: int, self_related: int) -> str | None:
    """Return what was merged and left out, in words; None where nothing was."""
    parts = []
    if repeated:
        parts.append(
            f"{repeated} repeated statement{'s' * (repeated > 1)} of graphs (in the same words, in "
            "other words or inverted) merged with the first"
        )
    if self_related:
        parts.append(
            f"{self_related} relation{'s' * (self_related > 1)} of an object to itself left out"
        )
    return "; ".join(parts) or None
