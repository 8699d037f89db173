"""Other wordings of known predicates: what is understood, and what stays unknown on purpose.

If one of these failed, a common wording would be an unknown word, or an ambiguous one would be
read as one of its meanings.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.graphs.predicates import (
    CANONICAL_PREDICATES,
    DEFAULT_VOCABULARY,
    PredicateVocabulary,
    UnknownPredicateError,
)
from sgflux.graphs.wordings import WORDINGS, bare


@pytest.mark.parametrize(
    ("text", "name"),
    [
        # T2I-CompBench's spatial wordings.
        ("on the left of", "left of"),
        ("on the right of", "right of"),
        ("on the top of", "on"),
        ("on the bottom of", "below"),
        ("on side of", "around/near"),
        ("on the side of", "around/near"),
        ("next to", "around/near"),
        # What people and data sets write.
        ("to left of", "left of"),
        ("to the right side of", "right of"),
        ("on left side of", "left of"),
        ("at the left side of", "left of"),
        ("on the left-hand side of", "left of"),
        ("is to the left of the", "left of"),
        ("is on", "on"),
        ("are wearing", "wearing"),
        ("wearing a", "wearing"),
        ("Is  Wearing An", "wearing"),
        ("in the", "in"),
        ("holds", "holding"),
        ("sits on the", "sitting on"),
        ("looks at", "looking at"),
        ("adjacent to", "around/near"),
    ],
)
def test_wordings_are_understood(text: str, name: str) -> None:
    assert DEFAULT_VOCABULARY.canonical(text) == name
    assert DEFAULT_VOCABULARY.normalize(text) == name
    assert text in DEFAULT_VOCABULARY


@pytest.mark.parametrize(
    "text",
    ["on the back of", "in the front of", "at the bottom of", "on the edge of", "is", "a", "the"],
)
def test_what_could_mean_two_things_stays_unknown(text: str) -> None:
    with pytest.raises(UnknownPredicateError):
        DEFAULT_VOCABULARY.canonical(text)
    assert DEFAULT_VOCABULARY.normalize(text) == text


def test_unknown_words_lose_copulas_and_articles_too() -> None:
    assert DEFAULT_VOCABULARY.normalize("is kicking a") == "kicking"
    assert bare("is the a") == "the", "something always stays"


def test_every_wording_means_what_it_means_as_an_alias() -> None:
    assert set(WORDINGS.values()) <= set(CANONICAL_PREDICATES)
    for wording, name in WORDINGS.items():
        assert DEFAULT_VOCABULARY.aliases.get(wording, name) == name
        assert DEFAULT_VOCABULARY.canonical(wording) == name


def test_a_users_own_table_comes_before_the_wordings() -> None:
    own = DEFAULT_VOCABULARY.with_predicate("on side of", kind="spatial")
    assert own.canonical("on side of") == "on side of"
    assert own.canonical("on the side of") == "around/near"
    other = DEFAULT_VOCABULARY.with_aliases({"holds": "carrying"})
    assert other.canonical("holds") == "carrying"
    assert other.canonical("is holding") == "holding"
    drinking = DEFAULT_VOCABULARY.with_predicate("drinking from a", kind="action")
    assert isinstance(drinking, PredicateVocabulary)


@given(
    st.sampled_from((*CANONICAL_PREDICATES, *DEFAULT_VOCABULARY.aliases)),
    st.sampled_from(("", "is ", "are ", "was ", "were ")),
    st.sampled_from(("", " a", " an", " the")),
)
def test_copulas_and_articles_never_change_a_predicate(word: str, before: str, after: str) -> None:
    worded = f"{before}{word}{after}"
    assert DEFAULT_VOCABULARY.canonical(worded) == DEFAULT_VOCABULARY.canonical(word)
