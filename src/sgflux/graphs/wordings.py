"""Other wordings of known predicates: articles, copulas, verb endings, and what benchmarks write.

Aliases (see :mod:`sgflux.graphs.predicates`) are other words for a predicate. Wordings are looked
up only where a vocabulary has neither a name nor an alias, so that a user's own table always comes
first. A wording that could mean two predicates is left out on purpose, stays unknown and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from sgflux.files.reading import table_beside

COPULAS = frozenset({"is", "are", "was", "were"})
"""What may stand in front of a predicate without a meaning of its own: "is wearing"."""

ARTICLES = frozenset({"a", "an", "the"})
"""What may stand behind a predicate and belongs to its object: "wearing a"."""

WORDINGS: Mapping[str, str] = {
    wording: name for name, wordings in table_beside(__file__).items() for wording in wordings
}
"""Wording, of wordings.toml -> the canonical predicate that it means."""


@lru_cache(maxsize=2**16)
def bare(predicate: str) -> str:
    """Return a cleaned predicate without leading copulas and trailing articles; never empty.

    "is wearing a" is "wearing"; "is" and "the" stay what they are.
    """
    words = predicate.split()
    while len(words) > 1 and words[0] in COPULAS:
        del words[0]
    while len(words) > 1 and words[-1] in ARTICLES:
        del words[-1]
    return " ".join(words)


def other_wordings(predicate: str) -> Iterator[str]:
    """Yield what a cleaned unknown predicate may be known as, the likeliest first."""
    stripped = bare(predicate)
    yield stripped
    for word in dict.fromkeys((predicate, stripped)):
        if word in WORDINGS:
            yield WORDINGS[word]
