"""GenEval 2's ``geneval2_data.jsonl``: a prompt, and a question for every part of it.

A line has ``prompt``, ``atom_count``, ``vqa_list`` (pairs of a question and its answer) and
``skills`` (the kind of each question). The questions name what the prompt states, in its order: a
question of the kind "count" begins a group of things, "attribute" describes the group, and
"position" or "verb" relates it to the group that comes next. Every thing of one group stands so to
every thing of the other. The words of the relation are those between the two names in the question.

Source: Kamath et al. 2025, arXiv:2512.16853; the format is that of
github.com/facebookresearch/GenEval2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sgflux.data.benchmarks.prompt_line import Group, NotParsedError, StatedLine, graph_of

KEYS = frozenset({"prompt", "vqa_list", "skills"})
"""Keys that a line of such a file has."""
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = re.compile(r"How many (.+)s are in the image\?")
_Words = Annotated[str, Meta(min_length=1)]


class _Line(Struct):
    prompt: _Words
    vqa_list: Annotated[list[tuple[_Words, _Words]], Meta(min_length=1)]
    skills: list[_Words]


def parse_geneval2(entry: Mapping[str, Any]) -> StatedLine:
    """Return what a line of GenEval 2 states.

    Raises:
        NotParsedError: if it has another form, or a question is of a form that is not known, or
            names something that the prompt does not have.
    """
    try:
        line = msgspec.convert(entry, _Line)
    except msgspec.ValidationError as error:
        raise NotParsedError(f"is no line of GenEval 2: {error}") from error
    if len(line.skills) != len(line.vqa_list):
        raise NotParsedError(
            f"it has {len(line.vqa_list)} questions in 'vqa_list' and {len(line.skills)} 'skills'"
        )
    nouns: list[str] = []
    counts: list[int] = []
    attributes: list[list[str]] = []
    asked: list[tuple[int, str]] = []  # (index of the subject's group, question)
    for (question, answer), skill in zip(line.vqa_list, line.skills, strict=True):
        if skill == "count":
            found = _COUNT.fullmatch(question)
            if found is None or answer not in _NUMBERS:
                raise _unknown(question, answer, skill)
            nouns.append(found[1])
            counts.append(1 + _NUMBERS.index(answer))
            attributes.append([])
        elif not nouns or answer != "Yes":
            raise _unknown(question, answer, skill)
        elif skill == "attribute":
            attributes[-1].append(_said(question, _who(nouns[-1], counts[-1]), answer, skill))
        elif skill in ("position", "verb"):
            asked.append((len(nouns) - 1, question))
        elif skill != "object" or question != f"Are there any {nouns[-1]}s in the image?":
            raise _unknown(question, answer, skill)
    groups = [
        Group(" ".join([*described, noun]), count)
        for noun, count, described in zip(nouns, counts, attributes, strict=True)
    ]
    for group in groups:
        mentioned = f"{group.name}s" if group.count > 1 else group.name
        if not re.search(rf"\b{re.escape(mentioned)}\b", line.prompt):
            raise NotParsedError(f"the questions name {mentioned!r}, which the prompt does not")
    relations = []
    for index, question in asked:
        if index + 1 == len(groups):
            raise NotParsedError(f"{question!r} relates to nothing that comes after it")
        subject, object_ = (_who(nouns[i], counts[i]) for i in (index, index + 1))
        predicate = _said(question, subject, "Yes", "relation", ends=f" the {object_}")
        if f" {predicate} " not in line.prompt:
            raise NotParsedError(f"{question!r} asks for what the prompt does not say")
        relations.append((index, predicate, index + 1))
    kinds = [skill for skill in line.skills if skill in ("position", "verb")]
    return StatedLine(
        line.prompt,
        graph_of(groups, relations),
        "+".join(dict.fromkeys(kinds)) or "no relation",
        entry,
    )


def _who(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _said(question: str, who: str, answer: str, skill: str, *, ends: str = "") -> str:
    """Return what a question says of the things that it begins with."""
    found = re.fullmatch(rf"(?:Is|Are) the {re.escape(who)} (.+){re.escape(ends)}\?", question)
    if found is None:
        raise _unknown(question, answer, skill)
    return found[1]


def _unknown(question: str, answer: str, skill: str) -> NotParsedError:
    return NotParsedError(f"the question {question!r} ({skill}: {answer!r}) has no known form")
