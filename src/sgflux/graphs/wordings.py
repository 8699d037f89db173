"""Other wordings of known predicates: articles, copulas, verb endings, and what benchmarks write.

Aliases (see :mod:`sgflux.graphs.predicates`) are other words for a predicate. Wordings are looked
up only where a vocabulary has neither a name nor an alias, so that a user's own table always comes
first. A wording that could mean two predicates ("on the back of", "in the front of", "at the bottom
of") is left out on purpose: it stays unknown and is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import lru_cache

COPULAS = frozenset({"is", "are", "was", "were"})
"""What may stand in front of a predicate without a meaning of its own: "is wearing"."""

ARTICLES = frozenset({"a", "an", "the"})
"""What may stand behind a predicate and belongs to its object: "wearing a"."""

_THIRD_PERSON = (
    "carries carrying; drinks drinking; eats eating; grasps holding; hangs from hanging from; "
    "hangs on hanging from; holds holding; looks at looking at; plays with playing with; "
    "pulls pulling; pushes pushing; rides riding; sits on sitting on; stands on standing on; "
    "stood on standing on; touches touching; uses using; watches looking at; wear wearing"
)
"""Verb forms that the aliases lack, each followed by its canonical predicate."""


def _wordings() -> Iterator[tuple[str, str]]:
    for entry in _THIRD_PERSON.split("; "):
        words = entry.split()
        half = len(words) // 2
        yield " ".join(words[:half]), " ".join(words[half:])
    # "on the left of" (T2I-CompBench), "to left of", "at the left side of" (VSR),
    # "on the left-hand side of", "left side of", "on the left".
    for side in ("left", "right"):
        starts = ("", "the ", *(f"{p} {a}" for p in ("on", "to", "at") for a in ("", "the ")))
        ends = (" of", " side of", " hand side of", "-hand side of")
        for start, end in itertools.product(starts, ends):
            yield f"{start}{side}{end}", f"{side} of"
        for start in ("to", "to the", "on the"):
            yield f"{start} {side}", f"{side} of"
    for article in ("", "the "):
        for end in ("of", "side of"):
            yield f"on {article}top {end}", "on"
            yield f"on {article}bottom {end}", "below"
        yield f"on {article}underside of", "below"
        yield f"on {article}inside of", "in"
        # A side that has no name: T2I-CompBench reads it as near.
        for preposition in ("on", "at", "by", "to"):
            yield f"{preposition} {article}side of", "around/near"
        yield f"to {article}rear of", "behind"
    yield "side of", "around/near"
    yield "adjacent to", "around/near"
    yield "nearby", "around/near"


WORDINGS: Mapping[str, str] = dict(_wordings())
"""Wording -> the canonical predicate that it means."""


@lru_cache(maxsize=2**16)
def bare(predicate: str) -> str:
    """A cleaned predicate without leading copulas and trailing articles; never empty.

    "is wearing a" is "wearing"; "is" and "the" stay what they are.
    """
    words = predicate.split()
    while len(words) > 1 and words[0] in COPULAS:
        del words[0]
    while len(words) > 1 and words[-1] in ARTICLES:
        del words[-1]
    return " ".join(words)


def other_wordings(predicate: str) -> Iterator[str]:
    """What a cleaned predicate that is not known itself may be known as, the likeliest first."""
    stripped = bare(predicate)
    yield stripped
    for word in dict.fromkeys((predicate, stripped)):
        if word in WORDINGS:
            yield WORDINGS[word]
