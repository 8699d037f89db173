"""What a predicate entails, and which nouns may name the same thing: read from entailments.toml.

Both tables serve one end: a negative must not be true of the image. They lean to caution: a pair
listed without need costs a few negatives, a pair that is missing costs wrong ones.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import lru_cache

from sgflux.files.reading import table_beside
from sgflux.graphs.predicates import CANONICAL_PREDICATES, PredicateVocabulary
from sgflux.graphs.wordings import ARTICLES, bare

_WORDS = table_beside(__file__)

ENTAILMENTS: Mapping[str, tuple[str, ...]] = {
    predicate: tuple(entailed) for predicate, entailed in _WORDS["entailments"].items()
}
"""Predicate (canonical, or any other word) -> the canonical ones that it entails directly.

What is said of a word that no vocabulary needs to have holds for every predicate that has it among
its words: "sitting across from" is "sitting" and "across".
"""

CONVERSES: Mapping[str, str] = _WORDS["converses"]
"""Words p for which "A p B" says, or all but says, "B q A": the passive, and what supports.

Only for predicates outside the canonical ones, whose inverses a vocabulary knows.
"""

TRANSITIVE = frozenset(_WORDS["predicates"]["transitive"])
"""Canonical predicates p for which "A p B" and "B p C" entail "A p C"."""

ORDERED = frozenset(_WORDS["predicates"]["ordered"])
"""Those of them that always hold of two things in a picture, in one direction or the other."""

_SAME_THING: tuple[frozenset[str], ...] = (
    *map(frozenset, _WORDS["nouns"]["synonyms"]),
    *(
        frozenset({general, specific})
        for general, specifics in _WORDS["nouns"]["specifics"].items()
        for specific in specifics
    ),
)

_IRREGULAR: Mapping[str, str] = _WORDS["nouns"]["irregular"]

_GROUPS: tuple[frozenset[str], ...] = tuple(map(frozenset, _WORDS["predicates"]["alike"]))

_CANONICAL = frozenset(CANONICAL_PREDICATES)

_VERB_FORMS: Mapping[str, str] = {
    form: forms[0] for forms in _WORDS["predicates"]["verbs"] for form in forms[1:]
}


@lru_cache(maxsize=4096)
def entailed(predicate: str, vocabulary: PredicateVocabulary) -> tuple[str, ...]:
    """Return what a (normalized) predicate entails, in any number of steps, without itself.

    A predicate outside the 24 canonical ones also entails every predicate that ``vocabulary`` or
    :data:`ENTAILMENTS` has and that it contains as whole words, articles left out: "sitting on top
    of" entails "sitting on" and "on", "drinking from a" entails "drinking". It also entails its
    synonyms.
    """
    pending = list(_direct(predicate, vocabulary))
    found: dict[str, None] = {}
    while pending:
        name = pending.pop(0)
        if name != predicate and name not in found:
            found[name] = None
            pending.extend(_direct(name, vocabulary))
    return tuple(found)


@lru_cache(maxsize=4096)
def conversely_entailed(predicate: str, vocabulary: PredicateVocabulary) -> tuple[str, ...]:
    """Return all q for which "A predicate B" entails "B q A": "worn by" entails "wearing".

    Empty for the canonical predicates: their inverses and symmetries are the vocabulary's.
    """
    if predicate in _CANONICAL:
        return ()
    direct = [vocabulary.canonical(CONVERSES[part]) for part in _parts(predicate, CONVERSES)]
    return tuple(dict.fromkeys(n for one in direct for n in (one, *entailed(one, vocabulary))))


def _direct(predicate: str, vocabulary: PredicateVocabulary) -> Iterator[str]:
    """Yield predicates that follow from one in a single step; it may follow from itself."""
    yield from ENTAILMENTS.get(predicate, ())
    if predicate in _CANONICAL:
        return
    yield from _parts(predicate, ENTAILMENTS)
    yield from (vocabulary.canonical(part) for part in _parts(predicate, vocabulary))
    for group in _GROUPS:
        if bare(predicate) in group:
            # Sorted, since the order of a set of words changes from process to process.
            yield from map(vocabulary.normalize, sorted(group - {bare(predicate)}))


def _parts(predicate: str, known: Container[str]) -> Iterator[str]:
    """Yield the runs of whole words of a predicate that are known, its verbs in any form.

    Articles are looked at both as a part of a run and as nothing.
    """
    words = predicate.split()
    plain = [word for word in words if word not in ARTICLES]
    verbs = [_VERB_FORMS.get(word, word) for word in plain]
    runs = (
        " ".join(form[start:stop])
        for form in (words, plain, verbs)
        for start in range(len(form))
        for stop in range(len(form), start, -1)
    )
    for run in dict.fromkeys(runs):
        if run in known and bare(run) == run:
            yield run


@lru_cache(maxsize=65536)
def is_same_name(a: str, b: str) -> bool:
    """Whether two nouns are one, without regard to case and number: "Dogs" and "dog"."""
    return _singular(a) == _singular(b)


@lru_cache(maxsize=65536)
def may_be_same_thing(a: str, b: str) -> bool:
    """Whether one thing may go by both nouns: "man" and "person", "street" and "road"."""
    pair = {_singular(a), _singular(b)}
    return len(pair) == 1 or any(pair <= group for group in _SAME_THING)


def _singular(name: str) -> str:
    name = " ".join(name.casefold().split())
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    if name.endswith(("shes", "ches", "xes", "sses")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name
