"""How good a judge is: what it says of real pictures, whose relations are known.

It is asked about the statements of the data, and about three kinds of statements that are false: a
judge that accepts everything is right about all of the first and none of the others, so the two
stand side by side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import EvaluationItem, batches, derived_seed
from sgflux.evaluation.judges.judge import (
    NONE,
    Judge,
    Reading,
    not_covered,
    pair_of,
    predicate_of,
    read_pictures,
)
from sgflux.evaluation.metrics import Row, macro_estimate, mean_estimate
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.graphs.entailments import entailed
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple

FALSE_KINDS = {
    "reversed": "a stated pair in the other order",
    "absent": "an object of the picture and one that is not in it",
    "unrelated": "two objects of the picture between which the data state nothing",
}
"""Kinds of pairs about which a judge may say something false -> what they are."""

_NO_JUDGE = (
    "no judge: nobody has looked at the pictures, so there are no relation accuracies and no win "
    "rate; what is measured is the ranking accuracy and how far the graph moves the pictures"
)
_UNCALIBRATED = (
    "was not calibrated on this test set, which has no pictures: believe what it reads as far as "
    "its own held-out figures go"
)


@dataclass(frozen=True)
class FalseQuestion:
    """A statement that is asked about though it is not true.

    Attributes:
        kind: one of :data:`FALSE_KINDS`.
        statement: a false statement about the picture.
        true_answers: the relations that do hold from this subject to this object, and "none".
    """

    kind: str
    statement: Triple
    true_answers: frozenset[str]

    def is_accepted(self, reading: Reading) -> bool:
        """Whether the judge accepts what is false.

        A judge that names relations accepts any relation that the pair does not have; another judge
        accepts the statement.
        """
        verdict = reading.verdicts[self.statement]
        if verdict.relation is None:
            return verdict.holds
        return verdict.relation not in self.true_answers


def false_questions(examples: Sequence[SceneExample], *, seed: int) -> list[list[FalseQuestion]]:
    """Make, for each example, statements that are not true of its picture.

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
            predicate = predicate_of(triple)
            other = Triple(triple.object, triple.predicate, triple.subject)
            answers = true_answers(about.triples(), other)
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


def judge_figures(
    judge: Judge | None,
    examples: Sequence[SceneExample],
    items: Sequence[EvaluationItem],
    pictures: RealPictures | None,
    *,
    seed: int,
    show_progress: bool,
) -> dict[str, Any]:
    """Measure how good the judge is before it is believed, and what it does not cover.

    Args:
        judge: is asked; None: nobody judges.
        examples: the test set.
        items: Items that are evaluated.
        pictures: those of the test set; None if it has none.
        seed: Random seed of the false statements.
        show_progress: show a bar on stderr.

    Raises:
        SgfluxError: if the judge does not know an object, or covers no statement of the items.
    """
    unknown: dict[str, Any] = {"accuracy": None, "ci95": None, "n": 0, "per_predicate": {}}
    if judge is None:
        return {"name": "none", "sha256": None, **unknown, "note": _NO_JUDGE}
    judge.check(example.graph for example in examples)
    judge.check(n.graph for item in items for n in (item.swapped, item.replaced) if n is not None)
    name = judge.identity.name
    stated = [triple for item in items for triple in item.graph.triples()]
    left_out = not_covered(judge, stated)
    if left_out.total() == len(stated):
        raise SgfluxError(
            f"the judge {name!r} covers none of the predicates of the test set {sorted(left_out)}; "
            "use another judge, or judge 'none'"
        )
    if pictures is None:
        figures: dict[str, Any] = {
            "name": name,
            "sha256": judge.identity.sha256,
            **unknown,
            "classes": list(judge.identity.classes),
            "note": f"the judge {name!r} {_UNCALIBRATED}",
        }
    else:
        with progress_bar(len(examples), "judge", show=show_progress) as advance:
            figures = calibrate(judge, examples, pictures, seed=seed, advance=advance)
    if judge.identity.model is not None:
        figures["model"] = judge.identity.model
    if judge.identity.parts:
        figures["judges"] = [part.to_json() for part in judge.identity.parts]
    if left_out:
        figures["not_covered"] = dict(sorted(left_out.items()))
    return figures


def calibrate(
    judge: Judge,
    examples: Sequence[SceneExample],
    pictures: RealPictures,
    *,
    seed: int,
    batch_size: int = 128,
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Measure how often the judge is right about true statements and accepts false ones.

    The figures stand so in ``evaluation_results.json``.

    Args:
        judge: is asked.
        examples: the test set.
        pictures: Pictures of the examples.
        seed: Random seed of the false statements.
        batch_size: pictures read at once.
        advance: called with the number of pictures just read.
    """
    questions = false_questions(examples, seed=seed)
    relations: list[Row] = []
    objects: list[Row] = []
    accepted: dict[str, list[Row]] = {kind: [] for kind in FALSE_KINDS}
    for batch in batches(list(zip(examples, questions, strict=True)), batch_size):
        asked = [
            [*example.graph.labelled_triples(), *(question.statement for question in own)]
            for example, own in batch
        ]
        readings = read_pictures(judge, [pictures.pixels(one) for one, _ in batch], asked)
        for (example, own), reading in zip(batch, readings, strict=True):
            cluster = example.image_rel_path
            relations += [
                (float(reading.is_right(t)), predicate_of(t), cluster)
                for t in example.graph.labelled_triples()
                if t in reading.verdicts
            ]
            if reading.present is not None:
                objects.append((float(reading.has_all(example.graph.labels())), "all", cluster))
            for question in own:
                if question.statement in reading.verdicts:
                    wrong = float(question.is_accepted(reading))
                    accepted[question.kind].append((wrong, "all", cluster))
        if advance is not None:
            advance(len(batch))
    accuracy = macro_estimate(relations).to_json()
    return {
        "name": judge.identity.name,
        "sha256": judge.identity.sha256,
        "accuracy": accuracy.pop("macro"),
        **accuracy,
        "false_acceptance": {
            kind: {**mean_estimate(rows).to_json(), "pairs": FALSE_KINDS[kind]}
            for kind, rows in accepted.items()
        },
        "objects_right": mean_estimate(objects).to_json(),
        "classes": list(judge.identity.classes),
        "calibrated_on": f"the {len(examples)} real pictures of the data set",
    }


def true_answers(holding: Iterable[Triple], asked: Triple) -> frozenset[str]:
    """Return what holds from the asked subject to its object, entailed or said, and "none".

    Args:
        holding: All statements that are known to be true.
        asked: Statement about the two objects.
    """
    subject, object_ = pair_of(asked)
    found = {NONE}
    for triple in holding:
        predicate = predicate_of(triple)
        every = (predicate, *entailed(predicate, DEFAULT_VOCABULARY))
        if pair_of(triple) == (subject, object_):
            found.update(every)
        elif pair_of(triple) == (object_, subject):
            found.update(_turned(every))
    return frozenset(found)


def _turned(predicates: Iterable[str]) -> Iterable[str]:
    """Yield what holds in the other direction where these do."""
    for predicate in predicates:
        inverse = DEFAULT_VOCABULARY.inverse(predicate)
        if DEFAULT_VOCABULARY.is_symmetric(predicate):
            yield predicate
        elif inverse is not None:
            yield inverse


def _is_related(about: SceneGraph, one: str, other: str) -> bool:
    pair = {one.casefold(), other.casefold()}
    return any(set(pair_of(triple)) == pair for triple in about.triples())
