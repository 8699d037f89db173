"""Who decides whether a picture shows a relation, and how often that judge is right.

A judge answers two questions about a picture: which predicate holds from one named object to
another, and which objects are there at all. Before it judges generated pictures it is asked about
real ones, whose relations are known: no figure means more than its judge's own accuracy.

Shapes: N pictures, Q queries of a picture, C classes of a judge (its predicates, then "none").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.judge import (
    CLASSES,
    IMAGE_SIZE,
    WorldJudge,
    read_judge,
    to_judge_images,
)
from sgflux.world.scenes import OBJECT_NAMES

NONE = "none"
"""The class of a pair that stands in no relation in this order."""

NamePair = tuple[str, str]
"""A query: (subject name, object name)."""


class Judge(Protocol):
    """Names relations and objects in pictures.

    Attributes:
        name: says who judged, in results.
        digest: SHA-256 of the judge's weights, in hex; None if it has none.
        classes: what :meth:`relation_scores` scores, in order: canonical predicates, then "none".
    """

    name: str
    digest: str | None
    classes: tuple[str, ...]

    def relation_scores(
        self, images: np.ndarray | Sequence[np.ndarray], queries: Sequence[Sequence[NamePair]]
    ) -> list[np.ndarray]:
        """Log-probabilities of the classes for every query.

        Args:
            images: N of (H, W, 3) uint8.
            queries: for each picture, its (subject, object) pairs.

        Returns:
            N of (Q, C) float32.
        """

    def objects_present(self, images: np.ndarray | Sequence[np.ndarray]) -> list[frozenset[str]]:
        """The names of the objects in each of N pictures."""

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Refuse what this judge cannot judge.

        Raises:
            SgfluxError: naming the first object or predicate that it does not know.
        """


class WorldJudgeAdapter:
    """The bundled world's judge, asked in names instead of indices."""

    def __init__(
        self, network: WorldJudge, *, digest: str | None = None, batch_size: int = 128
    ) -> None:
        """Keep the network and its digest; ``batch_size`` pictures are read at once."""
        self.name = "world"
        self.digest = digest
        self.classes = CLASSES
        self._network = network
        self._batch_size = batch_size
        self._index = {name: index for index, name in enumerate(OBJECT_NAMES)}

    @classmethod
    def load(cls, *, batch_size: int = 128) -> WorldJudgeAdapter:
        """With the weights that come with the package."""
        network, digest = read_judge()
        return cls(network, digest=digest, batch_size=batch_size)

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`; two objects of one name cannot be told apart either."""
        for graph in graphs:
            names = [name.casefold() for name in graph.objects]
            for name in graph.objects:
                self._object(name)
                if names.count(name.casefold()) > 1:
                    raise SgfluxError(
                        f"the world judge cannot tell two objects called {name!r} apart; "
                        "use judge 'none'"
                    )
            for triple in graph.triples():
                if DEFAULT_VOCABULARY.normalize(triple.predicate) not in self.classes:
                    raise SgfluxError(
                        f"the world judge does not know the predicate {triple.predicate!r}; "
                        "use judge 'none'"
                    )

    def relation_scores(
        self, images: np.ndarray | Sequence[np.ndarray], queries: Sequence[Sequence[NamePair]]
    ) -> list[np.ndarray]:
        """See :meth:`Judge.relation_scores`; pictures are squares of a multiple of 64 pixels."""
        if len(images) != len(queries):
            raise SgfluxError(f"{len(images)} pictures but queries for {len(queries)}")
        pairs = [
            [(self._object(subject), self._object(object_)) for subject, object_ in own]
            for own in queries
        ]
        scores: list[np.ndarray] = []
        for start in range(0, len(images), self._batch_size):
            window = slice(start, start + self._batch_size)
            own = pairs[window]
            # Pictures with fewer queries are padded with any valid one, which is then cut off.
            width = max(1, *(len(entry) for entry in own)) if own else 1
            padded = torch.tensor([entry + [(0, 1)] * (width - len(entry)) for entry in own])
            with torch.inference_mode():
                features = self._network.encode(_judge_images(images[window]))
                logits = self._network.relation_logits(features, padded[..., 0], padded[..., 1])
                values = torch.log_softmax(logits.float(), dim=-1).numpy()
            scores += [value[: len(entry)] for value, entry in zip(values, own, strict=True)]
        return scores

    def objects_present(self, images: np.ndarray | Sequence[np.ndarray]) -> list[frozenset[str]]:
        """See :meth:`Judge.objects_present`."""
        present: list[frozenset[str]] = []
        for start in range(0, len(images), self._batch_size):
            with torch.inference_mode():
                batch = _judge_images(images[start : start + self._batch_size])
                there = self._network.encode(batch).presence_logits > 0
            present += [
                frozenset(
                    name for name, is_there in zip(OBJECT_NAMES, row, strict=True) if is_there
                )
                for row in there.tolist()
            ]
        return present

    def features(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """What the network sees, averaged over the picture: (B, D) float32, for distances of sets.

        Raises:
            SgfluxError: if the pictures are no squares of a multiple of 64 pixels.
        """
        parts = []
        for start in range(0, len(images), self._batch_size):
            with torch.inference_mode():
                batch = _judge_images(images[start : start + self._batch_size])
                parts.append(self._network.encode(batch).tokens.mean(1).numpy())
        return np.concatenate(parts)

    def _object(self, name: str) -> int:
        index = self._index.get(name.casefold())
        if index is None:
            raise SgfluxError(
                f"the world judge does not know the object {name!r}, only {list(OBJECT_NAMES)}; "
                "use judge 'none' for pictures of other things"
            )
        return index


def _judge_images(images: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    try:
        return to_judge_images(images)
    except ValueError as error:
        raise SgfluxError(
            f"the world judge reads squares of a multiple of {IMAGE_SIZE} pixels: {error}"
        ) from error


@dataclass(frozen=True)
class Reading:
    """All that a judge said of one picture.

    Attributes:
        classes: what was scored, C names.
        scores: query -> (C,) log-probabilities.
        present: names of the objects seen, in lower case.
    """

    classes: tuple[str, ...]
    scores: dict[NamePair, np.ndarray]
    present: frozenset[str]

    def relation(self, triple: Triple) -> str:
        """The class that the judge finds most likely from the subject to the object."""
        return self.classes[int(np.argmax(self.scores[pair_of(triple)]))]

    def log_probability(self, triple: Triple) -> float:
        """Of the statement."""
        column = self.classes.index(DEFAULT_VOCABULARY.normalize(triple.predicate))
        return float(self.scores[pair_of(triple)][column])

    def is_right(self, triple: Triple) -> bool:
        """Whether the most likely class is what the triple states."""
        return self.relation(triple) == DEFAULT_VOCABULARY.normalize(triple.predicate)

    def preference(self, statement: Triple, other: Triple) -> float:
        """1 if ``statement`` is more likely than ``other``, 0 if less, 1/2 on a tie."""
        gap = self.log_probability(statement) - self.log_probability(other)
        return 0.5 + 0.5 * float(np.sign(gap))

    def has_all(self, names: Iterable[str]) -> bool:
        """Whether every one of these objects is there."""
        return all(name.casefold() in self.present for name in names)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; log-probabilities in the order of the judge's classes."""
        return {
            "scores": [
                {
                    "subject": subject,
                    "object": object_,
                    "log_probabilities": [round(float(value), 4) for value in values],
                }
                for (subject, object_), values in self.scores.items()
            ],
            "present": sorted(self.present),
        }


def pair_of(triple: Triple) -> NamePair:
    """The query that a statement is judged by."""
    return triple.subject.casefold(), triple.object.casefold()


def read_pictures(
    judge: Judge,
    images: np.ndarray | Sequence[np.ndarray],
    statements: Sequence[Sequence[Triple]],
) -> list[Reading]:
    """Ask a judge all that is needed to verify each picture's statements.

    Raises:
        SgfluxError: if there are not as many lists of statements, or answers, as pictures.
    """
    queries = [list(dict.fromkeys(map(pair_of, triples))) for triples in statements]
    scores = judge.relation_scores(images, queries)
    present = judge.objects_present(images)
    lengths = {
        "pictures": len(images),
        "lists of statements": len(queries),
        "scores": len(scores),
        "object lists": len(present),
    }
    if len(set(lengths.values())) > 1:
        raise SgfluxError(f"judge {judge.name!r}: lengths differ: {lengths}")
    readings = []
    for pairs, rows, names in zip(queries, scores, present, strict=True):
        if rows.shape != (len(pairs), len(judge.classes)):
            raise SgfluxError(
                f"judge {judge.name!r} answered {len(pairs)} queries with scores of the shape "
                f"{rows.shape}, expected ({len(pairs)}, {len(judge.classes)})"
            )
        readings.append(
            Reading(
                classes=judge.classes,
                scores=dict(zip(pairs, rows, strict=True)),
                present=frozenset(name.casefold() for name in names),
            )
        )
    return readings
