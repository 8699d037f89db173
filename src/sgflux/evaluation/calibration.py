"""How good a judge is: what it says of real pictures, whose relations are known.

It is asked for the relation of pairs whose relation is stated, and of three kinds of pairs of which
no relation is true: a judge that always names one is right about all of the first and none of the
others, so the two stand side by side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.evaluation.arms import derived_seed
from sgflux.evaluation.judges import NONE, Judge, Reading, pair_of, read_pictures
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.evaluation.scoring import Rows, Scorer
from sgflux.graphs.entailments import entailed
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple

FALSE_KINDS = {
    "reversed": "a stated pair in the other order",
    "absent": "an object of the picture and one that is not in it",
    "unrelated": "two objects of the picture between which the data state nothing",
}
"""Kinds of pairs about which a judge may say something false -> what they are."""


@dataclass(frozen=True)
class FalseQuestion:
    """A pair that is asked for though its statement is not true.

    Attributes:
        kind: one of :data:`FALSE_KINDS`.
        statement: A false statement about the picture; the judge is asked for its pair.
        true_answers: the relations that do hold from this subject to this object, and "none".
    """

    kind: str
    statement: Triple
    true_answers: frozenset[str]

    def is_accepted(self, reading: Reading) -> bool:
        """Whether the judge names a relation that the pair does not have."""
        return reading.relation(self.statement) not in self.true_answers


def false_questions(examples: Sequence[SceneExample], *, seed: int) -> list[list[FalseQuestion]]:
    """For each example, the pairs about which its picture states nothing, or the reverse.

    Every stated pair is asked in the other order, unless its predicate is symmetric; beside them
    one pair with an object that the picture does not show, and one that the data do not relate.

    Args:
        examples: the test set; what all rows say of a picture counts.
        seed: Random seed of the choices.
    """
    known = known_graphs(examples)
    names = sorted({name for example in examples for name in example.graph.objects})
    questions = []
    for row, example in enumerate(examples):
        rng = random.Random(derived_seed(seed, "calibration", row))
        about = known[example.picture]
        there = {name.casefold() for name in about.objects}
        own: list[FalseQuestion] = []
        for triple in dict.fromkeys(example.graph.triples()):
            predicate = DEFAULT_VOCABULARY.normalize(triple.predicate)
            other = Triple(triple.object, triple.predicate, triple.subject)
            answers = _true_answers(about, other)
            if DEFAULT_VOCABULARY.is_asymmetric(predicate) and predicate not in answers:
                own.append(FalseQuestion("reversed", other, answers))
        absent = [name for name in names if name.casefold() not in there]
        stated = example.triple
        if absent:
            stranger = rng.choice(absent)
            pair = (stated.subject, stranger) if rng.random() < 0.5 else (stranger, stated.object)
            false = Triple(pair[0], stated.predicate, pair[1])
            own.append(FalseQuestion("absent", false, frozenset({NONE})))
        apart = [
            Triple(one, stated.predicate, other)
            for one in dict.fromkeys(example.graph.objects)
            for other in dict.fromkeys(example.graph.objects)
            if one.casefold() != other.casefold() and not _is_related(about, one, other)
        ]
        if apart:
            own.append(FalseQuestion("unrelated", rng.choice(apart), frozenset({NONE})))
        questions.append(own)
    return questions


def calibrate(
    judge: Judge,
    examples: Sequence[SceneExample],
    pictures: RealPictures,
    scorer: Scorer,
    *,
    batch_size: int = 128,
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """The judge's own figures, as they stand in ``evaluation_results.json``.

    Args:
        judge: is asked.
        examples: the test set.
        pictures: its pictures.
        scorer: makes the figures; its seed chooses the false pairs.
        batch_size: pictures read at once.
        advance: called with the number of pictures just read.
    """
    questions = false_questions(examples, seed=scorer.seed)
    readings: list[Reading] = []
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        asked = [
            [*example.graph.triples(), *(question.statement for question in own)]
            for example, own in zip(batch, questions[start : start + batch_size], strict=True)
        ]
        readings += read_pictures(judge, [pictures.pixels(one) for one in batch], asked)
        if advance is not None:
            advance(len(batch))
    return calibration_figures(judge, examples, readings, questions, scorer)


def calibration_figures(
    judge: Judge,
    examples: Sequence[SceneExample],
    readings: Sequence[Reading],
    questions: Sequence[Sequence[FalseQuestion]],
    scorer: Scorer,
) -> dict[str, Any]:
    """How often the judge is right about true statements, and how often it accepts false ones."""
    relations: Rows = []
    objects: Rows = []
    accepted: dict[str, Rows] = {kind: [] for kind in FALSE_KINDS}
    for example, reading, own in zip(examples, readings, questions, strict=True):
        cluster = example.image_rel_path
        relations += [
            (float(reading.is_right(t)), DEFAULT_VOCABULARY.normalize(t.predicate), cluster)
            for t in example.graph.triples()
        ]
        objects.append((float(reading.has_all(example.graph.objects)), "all", cluster))
        for question in own:
            wrong = float(question.is_accepted(reading))
            accepted[question.kind].append((wrong, "all", cluster))
    accuracy = scorer.macro(relations).to_json()
    return {
        "name": judge.name,
        "sha256": judge.digest,
        "accuracy": accuracy.pop("macro"),
        **accuracy,
        "false_acceptance": {
            kind: {**scorer.mean(rows).to_json(), "pairs": FALSE_KINDS[kind]}
            for kind, rows in accepted.items()
        },
        "objects_right": scorer.mean(objects).to_json(),
        "classes": list(readings[0].classes) if readings else [],
        "calibrated_on": f"the {len(examples)} real pictures of the data set",
    }


def _true_answers(about: SceneGraph, asked: Triple) -> frozenset[str]:
    """What holds from the asked subject to its object, said or entailed; "none" is never false."""
    subject, object_ = pair_of(asked)
    found = {NONE}
    for triple in about.triples():
        predicate = DEFAULT_VOCABULARY.normalize(triple.predicate)
        every = (predicate, *entailed(predicate, DEFAULT_VOCABULARY))
        if pair_of(triple) == (subject, object_):
            found.update(every)
        elif pair_of(triple) == (object_, subject):
            found.update(_turned(every))
    return frozenset(found)


def _turned(predicates: Iterable[str]) -> Iterable[str]:
    """What holds in the other direction where these do."""
    for predicate in predicates:
        inverse = DEFAULT_VOCABULARY.inverse(predicate)
        if DEFAULT_VOCABULARY.is_symmetric(predicate):
            yield predicate
        elif inverse is not None:
            yield inverse


def _is_related(about: SceneGraph, one: str, other: str) -> bool:
    pair = {one.casefold(), other.casefold()}
    return any(set(pair_of(triple)) == pair for triple in about.triples())
