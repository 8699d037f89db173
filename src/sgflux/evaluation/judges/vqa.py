"""A judge of any relation: a vision-language model chooses which of three statements is true.

The model reads the stated relation, the same with its objects swapped (where the predicate is
asymmetric), and another relation of the same objects. It is asked in every order in which each
statement stands once at each letter, since models prefer letters. With a detector the two objects
are marked in the picture: what such models get wrong most is who does what to whom.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw
from scipy.special import log_softmax

from sgflux.data.prompts import in_prose
from sgflux.evaluation.judges.detectors.detector import Detection, Detector
from sgflux.evaluation.judges.judge import (
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
    pair_of,
    predicate_of,
    refuse_equal_names,
    without_numbers,
)
from sgflux.evaluation.judges.vision_language import LETTERS
from sgflux.graphs.negatives import NegativeKind, Negatives, NegativeUnavailableError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple, name_of_label

MARKS = ("red", "blue")
"""Colours of the boxes around the two objects, whose names are in alphabetical order."""

_TIE = 1e-6  # of probability, within which two statements are equally likely

Found = Mapping[str, Detection]
"""Name of an object, in lower case -> where it was found."""


class Answerer(Protocol):
    """Answers questions about pictures with letters.

    Attributes:
        name: Name of the model, in results.
        sha256: SHA-256, in hex, of its weights and of settings that are read with them; None if it
            has none.
    """

    name: str
    sha256: str | None

    def answers(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        """See :meth:`VisionLanguageModel.answers`."""


@dataclass(frozen=True)
class Choice:
    """A forced choice between statements about a picture.

    Attributes:
        row: Place of the picture.
        stated: Statement that is judged, as the judge was asked.
        options: Statements to choose from, of which the first one is judged.
        found: Detections of the objects by their names; None without a detector.
        marks: Detections to mark; None without a detector, and where it is open which of several
            objects of one name was found.
    """

    row: int
    stated: Triple
    options: tuple[Triple, ...]
    found: Found | None
    marks: Found | None

    @property
    def is_open(self) -> bool:
        """Whether the model is asked: no object is missing, as far as is known."""
        return self.found is None or len(self.found) == 2


class VqaJudge:
    """A vision-language model, and perhaps a detector that says where the objects are.

    A statement holds if the model finds it likelier than each of the others, is *contradicted* if
    not, and is *not found* where a detector is given and misses one of its objects. What is stated
    of ``dog#2`` is asked of any dog: negatives are false of every one.
    """

    def __init__(
        self, model: Answerer, detector: Detector | None = None, *, batch_size: int = 8
    ) -> None:
        """Ask this model, ``batch_size`` questions at once."""
        self._model, self._detector, self._batch_size = model, detector, batch_size
        # Who judges is model and detector together: another detector is another judge.
        name, digest = model.name, model.sha256
        if detector is not None:
            name = f"{name} with {detector.name}"
            digest = hashlib.sha256(f"{digest} {detector.sha256}".encode()).hexdigest()
        self.identity = JudgeIdentity("vqa", digest, model=name)

    def covers(self, predicate: str) -> bool:  # noqa: ARG002
        """See :meth:`Judge.covers`; a model reads every predicate."""
        return True

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`."""
        refuse_equal_names(graphs, self.identity.name)

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`; the probabilities are the evidence."""
        pictures = list(images)
        choices = self._choices(pictures, statements)
        answers = self._answers(pictures, [one for one in choices if one.is_open])
        verdicts: list[dict[Triple, Verdict]] = [{} for _ in pictures]
        boxes: list[dict[str, Any]] = [{} for _ in pictures]
        questions: list[list[dict[str, Any]]] = [[] for _ in pictures]
        for one in choices:
            boxes[one.row].update((name, at.to_json()) for name, at in (one.found or {}).items())
            if not one.is_open:
                verdicts[one.row][one.stated] = Verdict(Outcome.NOT_FOUND)
                continue
            scores, mass = next(answers)
            holds = np.exp(scores[0]) - np.exp(scores[1:]).max() > _TIE
            outcome = Outcome.HOLDS if holds else Outcome.CONTRADICTED
            verdicts[one.row][one.stated] = Verdict(outcome, score=float(scores[0]))
            questions[one.row].append(
                {
                    "options": [sentence(option) for option in one.options],
                    "probabilities": [round(float(p), 4) for p in np.exp(scores)],
                    "letters": round(mass, 4),
                }
            )
        present = [
            None if self._detector is None else _labels_of(own, found)
            for own, found in zip(statements, boxes, strict=True)
        ]
        return [
            Reading(said, there, {"questions": own, **({"boxes": found} if found else {})})
            for said, there, own, found in zip(verdicts, present, questions, boxes, strict=True)
        ]

    def _choices(
        self, pictures: Sequence[np.ndarray], statements: Sequence[Sequence[Triple]]
    ) -> list[Choice]:
        """Return what is asked, with the objects of each pair looked for by themselves."""
        asked = [
            (row, stated, without_numbers(stated))
            for row, own in enumerate(statements)
            for stated in dict.fromkeys(own)
        ]
        pairs = list(dict.fromkeys((row, _names(triple)) for row, _, triple in asked))
        found: dict[tuple[int, tuple[str, str]], Found] = {}
        if self._detector is not None:
            detections = self._detector.find(
                [pictures[row] for row, _ in pairs], [names for _, names in pairs]
            )
            for pair, own in zip(pairs, detections, strict=True):
                found[pair] = {one.name: one for one in sorted(own, key=lambda one: one.score)}
        twins = [_shared_names(own) for own in statements]
        choices = []
        for row, stated, triple in asked:
            there = found.get((row, _names(triple)))
            marks = there if twins[row].isdisjoint(_names(triple)) else None
            choices.append(Choice(row, stated, options_of(triple), there, marks))
        return choices

    def _answers(
        self, pictures: Sequence[np.ndarray], choices: Sequence[Choice]
    ) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the log-probabilities of each choice's options, and that of all their letters."""
        shown = [
            pictures[one.row] if one.marks is None else marked(pictures[one.row], one.marks)
            for one in choices
        ]
        asked = [
            (image, question_of(order, marks=one.marks))
            for image, one in zip(shown, choices, strict=True)
            for order in orders(one.options)
        ]
        letters: list[np.ndarray] = []
        for start in range(0, len(asked), self._batch_size):
            images, questions = zip(*asked[start : start + self._batch_size], strict=True)
            letters += list(self._model.answers(images, questions))
        rows = iter(letters)
        for one in choices:
            count = len(one.options)
            own = np.stack([next(rows)[:count] for _ in range(count)])
            yield averaged(own), float(np.exp(own).sum(axis=1).mean())


def _labels_of(statements: Iterable[Triple], found: Collection[str]) -> frozenset[str]:
    """Return the names that are found, and the labels of them: twins are not told apart."""
    labels = {label for triple in statements for label in pair_of(triple)}
    return frozenset({*found, *(label for label in labels if name_of_label(label) in found)})


def options_of(triple: Triple) -> tuple[Triple, ...]:
    """Return the statement, the swapped one if that is another statement, and another relation.

    The other relation is one of the same kind (spatial, contact, action) that the statement does
    not entail, where there is any, and always the same one for the same statement.
    """
    subject, object_ = triple.subject, triple.object
    options = [triple]
    if DEFAULT_VOCABULARY.is_asymmetric(triple.predicate):
        options.append(Triple(object_, triple.predicate, subject))
    options.append(Triple(subject, _other_predicate(triple), object_))
    return tuple(options)


def _other_predicate(triple: Triple) -> str:
    known, own = DEFAULT_VOCABULARY, predicate_of(triple)
    # The inverse states the same as the swapped statement, and near are most things.
    others = [n for n in known if n != known.inverse(own) and not known.is_symmetric(n)]
    alike = [n for n in others if own in known and known.kind(n) is known.kind(own)]
    for names in filter(None, (alike, others)):
        negatives = Negatives(SceneGraph.from_triple(triple), predicates=names)
        try:
            drawn = negatives.draw(random.Random(own), NegativeKind.PREDICATE)
        except NegativeUnavailableError:
            continue
        return drawn.graph.relationships[0][1]
    raise AssertionError(f"every statement excludes some predicate, but '{triple}' does not")


def orders(options: Sequence[Triple]) -> list[tuple[Triple, ...]]:
    """Return the rotations of the options: each stands once at each letter.

    Row k has option (k + j) mod L at letter j.
    """
    return [(*options[start:], *options[:start]) for start in range(len(options))]


def averaged(letters: np.ndarray) -> np.ndarray:
    """Return the options' log-probabilities from those of the letters in all orders.

    The mean is one of logarithms (a geometric mean), so what a letter has by its place, as a
    summand of its logit, is the same for every option and cancels out.

    Args:
        letters: Log-probabilities of L letters in the L :func:`orders`, (L, L).

    Returns:
        Log-probabilities of the options, (L,) float64, which sum to 1.
    """
    count = len(letters)
    places = (np.arange(count)[None] - np.arange(count)[:, None]) % count
    return log_softmax(np.take_along_axis(letters, places, axis=1).mean(axis=0))


def question_of(options: Sequence[Triple], *, marks: Found | None) -> str:
    """Return the question with these options, in which marked objects are named."""
    lines = []
    if marks is not None:
        boxes = zip(MARKS, sorted(marks), strict=True)
        lines.append(
            f"In this picture, {' and '.join(f'a {c} box marks the {name}' for c, name in boxes)}."
        )
    lines.append("Which statement about this picture is true?")
    lines += [
        f"{letter}. {sentence(option)}" for letter, option in zip(LETTERS, options, strict=False)
    ]
    lines.append("Answer with the letter of the true statement alone.")
    return "\n".join(lines)


def sentence(triple: Triple) -> str:
    """Return "The man is riding the horse."; a predicate that nobody knows stands as it is."""
    known = triple.predicate in DEFAULT_VOCABULARY
    predicate = f"is {in_prose(predicate_of(triple))}" if known else triple.predicate
    return f"The {triple.subject} {predicate} the {triple.object}."


def marked(image: np.ndarray, marks: Found) -> np.ndarray:
    """Return a copy of a picture, (H, W, 3) uint8, with boxes around two objects."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    width = max(1, round(0.006 * sum(picture.size)))
    for colour, name in zip(MARKS, sorted(marks), strict=True):
        left, top, right, bottom = marks[name].box.corners
        # A box may be narrower than a pixel.
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(corners, outline=colour, width=width)
    return np.asarray(picture)


def _shared_names(statements: Iterable[Triple]) -> set[str]:
    """Return the names, in lower case, that several objects have."""
    labels = {label for triple in statements for label in pair_of(triple)}
    counts = Counter(map(name_of_label, labels))
    return {name for name, count in counts.items() if count > 1}


def _names(triple: Triple) -> tuple[str, str]:
    """Return the names of the two objects, in lower case and alphabetical order."""
    first, second = sorted(pair_of(triple))
    return first, second
