"""What a judge is asked about known pictures.

For each true statement two more are asked that are false: the same with its objects *swapped*,
where the predicate is asymmetric, and the true statement of another picture, a *foreign* one, of
which an object is not in this picture. What is true of a picture, and in it, is what all entries
about it say. A judge that accepts everything, or that knows the statements and does not look,
accepts those as well.

Every statement is a question of its own, so that no verdict depends on what else is asked.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from sgflux.data.images import load_image
from sgflux.evaluation.arms import derived_seed
from sgflux.evaluation.calibration import true_answers
from sgflux.evaluation.judges.judge import (
    Judge,
    Outcome,
    pair_of,
    predicate_of,
    read_pictures,
)
from sgflux.evaluation.known.pictures import KnownPicture, KnownStatement, Source
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple


class Asked(StrEnum):
    """Why a statement is asked about."""

    TRUE = "true"
    FALSE = "false"
    SWAPPED = "swapped"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Question:
    """A statement about a picture, whose answer is known.

    Attributes:
        picture: Place of the picture in the set.
        triple: The statement.
        asked: Why it is asked; only the first kind is true.
        source: Authority on the statement, or on the true one that it was made from.
        predicate: Canonical predicate.
    """

    picture: int
    triple: Triple
    asked: Asked
    source: Source
    predicate: str


@dataclass(frozen=True)
class Answer:
    """What the judge said.

    Attributes:
        question: The question.
        outcome: The judge's verdict.
        cluster: The picture's path.
    """

    question: Question
    outcome: Outcome
    cluster: str

    @property
    def accepted(self) -> float:
        """1 if the judge says that the statement holds, else 0."""
        return float(self.outcome is Outcome.HOLDS)

    @property
    def is_found(self) -> bool:
        """Whether the judge did not miss an object."""
        return self.outcome is not Outcome.NOT_FOUND


def questions_of(pictures: Sequence[KnownPicture], judge: Judge, *, seed: int) -> list[Question]:
    """List everything that the judge is asked, in the order of the pictures.

    Args:
        pictures: Known pictures.
        judge: Says which predicates it covers.
        seed: Random seed of the foreign statements.
    """
    covered = [
        [one for one in picture.statements if judge.covers(predicate_of(one.triple))]
        for picture in pictures
    ]
    holding: dict[tuple[Path, bool], list[Triple]] = defaultdict(list)
    shown: dict[Path, set[str]] = defaultdict(set)
    for picture in pictures:
        true_here = [one.triple for one in picture.statements if one.is_true]
        holding[picture.path, picture.is_mirrored] += [*true_here, *picture.also_true]
        triples = (*(one.triple for one in picture.statements), *picture.also_true)
        names = (*picture.also_shown, *(name for name, _ in picture.objects or ()))
        shown[picture.path].update(name for triple in triples for name in pair_of(triple))
        shown[picture.path].update(name.casefold() for name in names)
    true: dict[Source, list[Triple]] = defaultdict(list)
    for own in covered:
        for one in own:
            if one.is_true:
                true[one.source].append(one.triple)
    questions = []
    for place, (picture, own) in enumerate(zip(pictures, covered, strict=True)):
        for number, one in enumerate(own):
            rng = random.Random(derived_seed(seed, "known", place, number))
            others = {
                Asked.TRUE if one.is_true else Asked.FALSE: one.triple,
                Asked.SWAPPED: _swapped(one, holding[picture.path, picture.is_mirrored]),
                Asked.FOREIGN: _foreign(one, true[one.source], shown[picture.path], rng),
            }
            for asked, triple in others.items():
                if triple is not None:
                    predicate = predicate_of(triple)
                    questions.append(Question(place, triple, asked, one.source, predicate))
    return questions


def _swapped(true: KnownStatement, holding: Sequence[Triple]) -> Triple | None:
    """Return the statement with its objects exchanged, if that is false.

    Args:
        true: The statement.
        holding: All statements that are known to be true of its picture.
    """
    triple = true.triple
    reverse = Triple(triple.object, triple.predicate, triple.subject)
    if not true.is_true or not DEFAULT_VOCABULARY.is_asymmetric(triple.predicate):
        return None
    return None if predicate_of(reverse) in true_answers(holding, reverse) else reverse


def _foreign(
    true: KnownStatement, others: Sequence[Triple], shown: set[str], rng: random.Random
) -> Triple | None:
    """Choose a true statement of another picture, an object of which is not in this one.

    It has the same predicate where there is such a statement.

    Args:
        true: The statement in place of which another one is asked.
        others: True statements of all pictures.
        shown: Names, in lower case, of all that is known to be in this picture.
        rng: Says where the search begins.
    """
    if not true.is_true:
        return None
    start = rng.randrange(len(others))
    turned = (*others[start:], *others[:start])
    absent = (other for other in turned if not shown >= {*pair_of(other)})
    first = next(absent, None)
    predicate = predicate_of(true.triple)
    alike = (other for other in turned if predicate_of(other) == predicate)
    return next((other for other in alike if not shown >= {*pair_of(other)}), first)


def ask(
    judge: Judge,
    pictures: Sequence[KnownPicture],
    questions: Sequence[Question],
    *,
    batch_size: int = 16,
    advance: Callable[[int], object],
) -> list[Answer]:
    """Ask the judge, which gets pixels and statements alone.

    Args:
        judge: The judge.
        pictures: Known pictures.
        questions: Questions about them, in the order of the pictures.
        batch_size: Number of pictures that are read at once.
        advance: Called with the number of pictures just read.

    Raises:
        SgfluxError: if the judge refuses an object or leaves out a statement.
    """
    by_picture: dict[int, list[Question]] = defaultdict(list)
    for question in questions:
        by_picture[question.picture].append(question)
    places = list(by_picture)
    judge.check(SceneGraph.from_triple(question.triple) for question in questions)
    answers = []
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        asked = [question for place in batch for question in by_picture[place]]
        pixels = {place: pixels_of(pictures[place]) for place in batch}
        readings = read_pictures(
            judge, [pixels[one.picture] for one in asked], [[one.triple] for one in asked]
        )
        answers += [
            Answer(one, reading.verdicts[one.triple].outcome, str(pictures[one.picture].path))
            for one, reading in zip(asked, readings, strict=True)
        ]
        advance(len(batch))
    return answers


def pixels_of(picture: KnownPicture) -> np.ndarray:
    """Return the upright picture, (H, W, 3) uint8."""
    return np.asarray(load_image(picture.path, mirrored=picture.is_mirrored))
