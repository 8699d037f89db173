"""What the bundled judge reads in pictures, asked about statements with labels.

Objects that are alone of their name are looked for in the whole picture. Of k objects of one name,
k places are found, and the places are taken for the labels in the way in which most statements
hold; between equals, the earlier statements decide, then the likelihood.

Shapes: B pictures, Q queries, C = 25 classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import Triple, name_of_label
from sgflux.graphs.twins import by_name, connected, labels_of, ways
from sgflux.world.judge import CLASSES, JudgeFeatures, WorldJudge
from sgflux.world.scenes import OBJECT_NAMES

_INDEX = {name: index for index, name in enumerate(OBJECT_NAMES)}
_SIDE = 16

Pair = tuple[str, str]
"""(subject label, object label), in lower case."""

Place = np.ndarray | None
"""The cells of one object, (256,) bool; None for an object that is alone of its name."""


@dataclass(frozen=True)
class Relations:
    """What the judge reads in one picture.

    Attributes:
        scores: Pair -> log-probabilities of the classes, (C,) float32. A pair is missing where the
            picture shows too few objects of a name.
        present: Labels of the objects that are found, in lower case.
    """

    scores: Mapping[Pair, np.ndarray]
    present: frozenset[str]


def object_index(name: str) -> int:
    """Return the index of an object, whose name may be in any case.

    Raises:
        SgfluxError: if the world has no such object.
    """
    index = _INDEX.get(name.casefold())
    if index is None:
        raise SgfluxError(
            f"the world judge does not know the object {name!r}, only {', '.join(OBJECT_NAMES)}",
            advice="; use judge 'none' for pictures of other things",
        )
    return index


def find_places(logits: np.ndarray, count: int) -> list[np.ndarray]:
    """Find the places at which a picture shows an object.

    Args:
        logits: Location logits of the object, (256,) float.
        count: Largest number of places.

    Returns:
        Up to ``count`` places that do not touch, (256,) bool each, the surest first.
    """
    waiting = {(int(y), int(x)) for y, x in np.argwhere(logits.reshape(_SIDE, _SIDE) > 0)}
    places = []
    while waiting:
        border = [waiting.pop()]
        place = np.zeros((_SIDE, _SIDE), bool)
        while border:
            y, x = border.pop()
            place[y, x] = True
            beside = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & waiting
            waiting -= beside
            border += beside
        places.append(place.ravel())
    certainty = 1 / (1 + np.exp(-logits))
    return sorted(places, key=lambda place: -float(certainty[place].sum()))[:count]


def read_relations(
    network: WorldJudge, images: Tensor, statements: Sequence[Sequence[Triple]]
) -> list[Relations]:
    """Read what the statements about every picture are about.

    Args:
        network: The judge.
        images: (B, 3, 64, 64) float in [0, 1].
        statements: B lists of statements with labels and predicates of the world.

    Raises:
        SgfluxError: on an object that the world does not have.
    """
    with torch.inference_mode():
        features = network.encode(images)
        labels = [labels_of(own) for own in statements]
        found = [
            _places(own, logits)
            for own, logits in zip(labels, features.location_logits.numpy(), strict=True)
        ]
        asked = [_questions(own, places) for own, places in zip(statements, found, strict=True)]
        answers = _ask(network, features, found, asked)
    present = (features.presence_logits > 0).tolist()
    return [
        Relations(_best(own, places, answer), _present(there, said, places))
        for own, said, places, answer, there in zip(
            statements, labels, found, answers, present, strict=True
        )
    ]


_Places = Mapping[str, Sequence[Place]]
_Question = tuple[str, int, str, int]
"""Names of subject and object, each with the number of its place."""


def _places(labels: Sequence[str], logits: np.ndarray) -> dict[str, list[Place]]:
    """Return name -> its places in one picture, whose location logits are (14, 256)."""
    places: dict[str, list[Place]] = {}
    for name, group in by_name(labels).items():
        index = object_index(name)
        places[name] = [None] if len(group) == 1 else [*find_places(logits[index], len(group))]
    return places


def _questions(statements: Sequence[Triple], places: _Places) -> list[_Question]:
    """Return every pair of places that may be a statement's subject and object, each once."""
    return list(
        dict.fromkeys(
            (subject, one, object_, other)
            for subject, object_ in map(_names, statements)
            for one in range(len(places[subject]))
            for other in range(len(places[object_]))
            if (subject, one) != (object_, other)
        )
    )


def _names(triple: Triple) -> tuple[str, str]:
    return name_of_label(triple.subject.casefold()), name_of_label(triple.object.casefold())


def _ask(
    network: WorldJudge,
    features: JudgeFeatures,
    places: Sequence[_Places],
    asked: Sequence[Sequence[_Question]],
) -> list[dict[_Question, np.ndarray]]:
    """Return question -> log-probabilities of the classes, (C,), of each picture."""
    # Pictures with fewer questions are padded with any valid one, which is then cut off.
    width = max(1, *(len(own) for own in asked))
    pairs = torch.zeros((len(asked), width, 2), dtype=torch.long)
    pairs[..., 1] = 1
    cells = torch.ones((2, len(asked), width, _SIDE * _SIDE), dtype=torch.bool)
    are_twins = False
    for row, (own, there) in enumerate(zip(asked, places, strict=True)):
        for column, (subject, one, object_, other) in enumerate(own):
            for side, (name, number) in enumerate(((subject, one), (object_, other))):
                pairs[row, column, side] = object_index(name)
                place = there[name][number]
                if place is not None:
                    cells[side, row, column], are_twins = torch.from_numpy(place), True
    first, second = cells if are_twins else (None, None)
    logits = network.relation_logits(
        features, pairs[..., 0], pairs[..., 1], subject_cells=first, object_cells=second
    )
    values = torch.log_softmax(logits.float(), dim=-1).numpy()
    return [
        dict(zip(own, said[: len(own)], strict=True))
        for own, said in zip(asked, values, strict=True)
    ]


def _best(
    statements: Sequence[Triple], places: _Places, answers: Mapping[_Question, np.ndarray]
) -> dict[Pair, np.ndarray]:
    """Return the scores of every pair in the best way to tell twins apart."""
    numbers = {name: range(len(own)) for name, own in places.items()}

    def scores_of(part: Sequence[Triple], way: Mapping[str, int]) -> dict[Pair, np.ndarray]:
        scores = {}
        for triple in part:
            one, other = (label.casefold() for label in (triple.subject, triple.object))
            if one in way and other in way:
                subject, object_ = _names(triple)
                scores[one, other] = answers[subject, way[one], object_, way[other]]
        return scores

    best: dict[Pair, np.ndarray] = {}
    for part in connected(statements):
        stated = [
            (one.subject.casefold(), one.object.casefold(), class_index(one.predicate))
            for one in part
        ]

        def holding(scores: Mapping[Pair, np.ndarray]) -> tuple[int, tuple[bool, ...], float]:
            found = [(scores.get((s, o)), said) for s, o, said in stated]  # noqa: B023
            right = tuple(own is not None and int(own.argmax()) == said for own, said in found)
            likelihood = sum(float(own[said]) for own, said in found if own is not None)
            return sum(right), right, likelihood

        options = [scores_of(part, way) for way in ways(labels_of(part), numbers)]
        chosen: Mapping[Pair, np.ndarray] = max(options, key=holding)
        best.update(chosen)
    # The pairs stand in the order of the statements, whatever they are connected to.
    asked = dict.fromkeys((t.subject.casefold(), t.object.casefold()) for t in statements)
    return {pair: best[pair] for pair in asked if pair in best}


def class_index(predicate: str) -> int:
    """Return the class of a predicate of the world, in any wording."""
    return CLASSES.index(DEFAULT_VOCABULARY.normalize(predicate))


def _present(there: Sequence[bool], labels: Sequence[str], places: _Places) -> frozenset[str]:
    """Return the names that a picture shows, and as many of their labels as there are places."""
    found = {name for name, is_there in zip(OBJECT_NAMES, there, strict=True) if is_there}
    groups = by_name(labels).items()
    said = (
        label for name, group in groups if name in found for label in group[: len(places[name])]
    )
    return frozenset(found.union(said))
