"""The grammar of prompts in plain text: articles mark names, and known words mark relations.

    text     = [opening] clause {", " ["and"] clause} ["."]
    clause   = names [link name {"and" name}]
    names    = name {"and" name}
    link     = ["is" | "are" | "was" | "were"] (relation | verb [relation | preposition])
    name     = ("a" | "an" | "the" | "another" | "one") word {word}

A relation is a word of the vocabulary. Whether the vocabulary knows a verb ("resting on") is for
the reader of the list to decide. "the NAME" means the thing that was mentioned before, "a NAME" and
"another NAME" mean a further one. A text that can be understood in two ways is not read: "a cup
near a plate and a fork", "a cat on a mat under a table".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from sgflux.data.benchmarks.prompt_line import Group, NotParsedError, graph_of
from sgflux.files.reading import table_beside
from sgflux.graphs.predicates import PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.graphs.wordings import WORDINGS

_WORDS: dict[str, list[str]] = table_beside(__file__)
_ARTICLES, _COPULAS = frozenset(_WORDS["articles"]), frozenset(_WORDS["copulas"])
_NOT_IN_NAMES = _COPULAS.union(_WORDS["not_in_names"], _WORDS["numbers"])
_MAX_NAME = 6
"""Number of words of a name: a longer one is a sentence that was not understood."""

_Kind = Literal["relation", "and", "comma", "end"]


@dataclass(frozen=True)
class _Link:
    """What stands between a name and the next one."""

    kind: _Kind
    predicate: str = ""
    is_sentence: bool = False


@dataclass(frozen=True)
class _Mention:
    """A name in the text, and what follows it."""

    article: str
    name: str
    link: _Link


@dataclass
class _Reading:
    """What was understood so far."""

    groups: list[Group] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)

    def mention(self, mention: _Mention) -> int:
        """Return the index of the thing that is meant."""
        same = [i for i, group in enumerate(self.groups) if group.name == mention.name]
        if mention.article == "the" and same:
            if len(same) > 1:
                raise NotParsedError(f"'the {mention.name}' can be {len(same)} things")
            return same[0]
        self.groups.append(Group(mention.name))
        return len(self.groups) - 1


def parse_prompt(text: str, vocabulary: PredicateVocabulary) -> SceneGraph:
    """Return the graph that a text states; it has no relationship where the text states none.

    Args:
        text: Prompt, without regard to case.
        vocabulary: Vocabulary whose words are relations without "is", too.

    Raises:
        NotParsedError: if the grammar does not have the text, or has it in two ways.
    """
    mentions = _mentions(_tokens(text, vocabulary), vocabulary)
    reading = _Reading()
    while mentions:
        mentions = _clause(mentions, reading)
    return graph_of(reading.groups, reading.relations)


def _clause(mentions: list[_Mention], reading: _Reading) -> list[_Mention]:
    """Understand one clause; return the mentions after it."""
    subjects, link = [], _Link("and")
    while link.kind == "and" and mentions:
        mention, *mentions = mentions
        link = mention.link
        subjects.append(reading.mention(mention))
    if link.kind != "relation":
        return mentions
    if len(subjects) > 1 and not link.is_sentence:
        raise NotParsedError(
            f"it can be the last thing before {link.predicate!r} alone, or all of them, of which "
            "that is said; put a comma or 'are' into the text"
        )
    objects = []
    while True:
        mention, *mentions = mentions
        objects.append(reading.mention(mention))
        if mention.link.kind == "relation":
            raise NotParsedError(
                f"{mention.link.predicate!r} can be said of {mention.name!r} or of what stands "
                "before it; put ', and' between two statements"
            )
        if mention.link.kind != "and":
            break
        following = mentions[0].link
        if following.is_sentence:
            break  # "... on a mat and the dog is under a table" begins another clause
        if not link.is_sentence or following.kind == "relation":
            raise NotParsedError(
                f"{mentions[0].name!r} can be part of what {link.predicate!r} says, or not; put a "
                "comma before 'and' if it is not"
            )
    reading.relations += [(s, link.predicate, o) for s in subjects for o in objects]
    return mentions


def _mentions(tokens: list[str], vocabulary: PredicateVocabulary) -> list[_Mention]:
    starts = [i for i, token in enumerate(tokens) if token in _ARTICLES]
    if not starts or starts[0] != 0:
        first = next((token for token in tokens if token in _WORDS["numbers"]), None)
        reason = "it does not begin with 'a', 'an' or 'the'"
        if first is not None:
            reason = f"it has the number {first!r}, and this grammar reads one of each thing"
        raise NotParsedError(reason)
    mentions = []
    for start, stop in pairwise([*starts, len(tokens)]):
        part = tokens[start + 1 : stop]
        words, link = _split(part, vocabulary)
        if (stop == len(tokens)) != (link.kind == "end"):
            here = _spelled(part)
            raise NotParsedError(
                f"no known relation follows {here!r}"
                if link.kind == "end"
                else f"no name follows {here!r}"
            )
        mentions.append(_Mention(tokens[start], _name(words), link))
    return mentions


def _split(part: list[str], vocabulary: PredicateVocabulary) -> tuple[list[str], _Link]:
    """Return the words of a name, and the link to the next one, of what follows an article."""
    if part[-1:] == ["and"]:
        has_comma = part[-2:-1] == [","]
        return part[: -2 if has_comma else -1], _Link("comma" if has_comma else "and")
    if part[-1:] == [","]:
        return part[:-1], _Link("comma")
    for place, word in enumerate(part):
        if word in _COPULAS:
            predicate = _after_copula(part[place + 1 :], vocabulary)
            return part[:place], _Link("relation", predicate, is_sentence=True)
    for start in range(1, len(part)):
        verb, rest = part[start - 1], part[start:]
        if _is_relation(rest, vocabulary):
            if start > 1 and verb in _WORDS["nouns_or_verbs"]:
                raise NotParsedError(f"{verb!r} before {' '.join(rest)!r} may be a verb")
            # "turtles jumping over": the verb is part of the relation.
            start -= start > 1 and _is_verb(verb)
            return part[:start], _Link("relation", _spelled(part[start:]))
    if len(part) > 1 and part[-1].endswith("ing") and _is_verb(part[-1]):
        return part[:-1], _Link("relation", part[-1])
    return part, _Link("end")


def _after_copula(words: list[str], vocabulary: PredicateVocabulary) -> str:
    said = _spelled(words)
    if not words:
        raise NotParsedError("no relation follows 'is', 'are', 'was' or 'were'")
    if "between" in words:
        raise NotParsedError(f"{said!r} relates three things, and a graph relates two")
    verb, rest = words[0], words[1:]
    if _is_relation(words, vocabulary) or (
        _is_verb(verb)
        and (not rest or _is_relation(rest, vocabulary) or _spelled(rest) in _WORDS["prepositions"])
    ):
        return said
    raise NotParsedError(f"{said!r} is more than a relation, or less")


def _spelled(words: list[str]) -> str:
    return " ".join(words).replace("_", " ")


def _name(words: list[str]) -> str:
    text = " ".join(words)
    if not words or len(words) > _MAX_NAME:
        raise NotParsedError(
            f"a name has 1 to {_MAX_NAME} words, got {text!r}" if words else "a name is missing"
        )
    for word in words:
        if word in _NOT_IN_NAMES or not re.fullmatch(r"[^\W\d_]+(['’-][^\W\d_]+)*", word):
            raise NotParsedError(f"{word!r} in {text!r} is no part of a name")
    for word in words[1:]:
        may_describe = word.endswith("ed") or word in _WORDS["describing"]
        if _is_verb(word) and (word == words[-1] or not may_describe):
            raise NotParsedError(f"{word!r} in {text!r} looks like a verb")
    return text


def _is_verb(word: str) -> bool:
    return (
        (word.endswith("ing") and len(word) > 4 and word not in _WORDS["nouns_in_ing"])
        or (word.endswith("ed") and word not in _WORDS["nouns_in_ed"])
        or word in _WORDS["past_tenses"]
    )


def _is_relation(words: list[str], vocabulary: PredicateVocabulary) -> bool:
    return _spelled(words) in _known(vocabulary)


def _tokens(text: str, vocabulary: PredicateVocabulary) -> list[str]:
    """Return the words in lower case, with relations that have an article as one word."""
    text = " ".join(text.lower().split()).removesuffix(".")
    for opening in _WORDS["openings"]:
        text = text.removeprefix(f"{opening} ")
    if mark := re.search(r"[^\w\s,'’-]", text):
        raise NotParsedError(f"{mark[0]!r} is no word")
    text = f" {text.replace(',', ' ,')} "
    for phrase in _with_article(vocabulary):
        text = text.replace(f" {phrase} ", f" {phrase.replace(' ', '_')} ")
    return text.split()


@lru_cache(maxsize=8)
def _known(vocabulary: PredicateVocabulary) -> frozenset[str]:
    """Return every wording of a relation that the vocabulary knows."""
    return frozenset((*vocabulary.names, *vocabulary.aliases, *WORDINGS))


@lru_cache(maxsize=8)
def _with_article(vocabulary: PredicateVocabulary) -> list[str]:
    """Return the wordings with an article inside ("to the left of"), the longest first."""
    found = [words for words in _known(vocabulary) if _ARTICLES & set(words.split())]
    return sorted(found, key=lambda words: (-len(words), words))
