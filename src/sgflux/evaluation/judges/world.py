"""The bundled world's judge, asked in names instead of indices.

Shapes: N pictures, Q pairs of objects of a picture, C classes (predicates, then "none").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import (
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
    pair_of,
    predicate_of,
)
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.judge import CLASSES, IMAGE_SIZE, WorldJudge, read_judge, to_judge_images
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES

_INDEX = {name: index for index, name in enumerate(OBJECT_NAMES)}


class WorldJudgeAdapter:
    """The network of :mod:`sgflux.world.judge` as a judge.

    A statement holds if its predicate is the likeliest class of its pair, whether or not the
    network finds the two objects.
    """

    def __init__(
        self, network: WorldJudge, *, digest: str | None = None, batch_size: int = 128
    ) -> None:
        """Keep the network and its digest; ``batch_size`` pictures are read at once."""
        self.identity = JudgeIdentity("world", digest, CLASSES)
        self._network = network
        self._batch_size = batch_size

    @classmethod
    def load(cls, *, batch_size: int = 128) -> WorldJudgeAdapter:
        """Load the judge with the weights that come with the package."""
        network, digest = read_judge()
        return cls(network, digest=digest, batch_size=batch_size)

    def covers(self, predicate: str) -> bool:
        """See :meth:`Judge.covers`."""
        return predicate in PREDICATES

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`; two objects of one name cannot be told apart either."""
        for graph in graphs:
            names = [name.casefold() for name in graph.objects]
            for name in graph.objects:
                _object(name)
                if names.count(name.casefold()) > 1:
                    raise SgfluxError(
                        f"the world judge cannot tell two objects called {name!r} apart; "
                        "use judge 'none'"
                    )

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`; pictures are squares of a multiple of 64 pixels."""
        pairs = [list(dict.fromkeys(map(pair_of, own))) for own in statements]
        readings: list[Reading] = []
        for start in range(0, len(images), self._batch_size):
            window = slice(start, start + self._batch_size)
            scores, present = self._scores(images[window], pairs[window])
            for own, asked, values, there in zip(
                statements[window], pairs[window], scores, present, strict=True
            ):
                of_pair = dict(zip(asked, values, strict=True))
                readings.append(reading_of(own, scores=of_pair, present=there))
        return readings

    def features(self, images: Images) -> np.ndarray:
        """Return the picture's mean features, (N, D) float32, for distances of sets.

        Raises:
            SgfluxError: if the pictures are no squares of a multiple of 64 pixels.
        """
        parts = []
        for start in range(0, len(images), self._batch_size):
            with torch.inference_mode():
                batch = _judge_images(images[start : start + self._batch_size])
                parts.append(self._network.encode(batch).tokens.mean(1).numpy())
        return np.concatenate(parts)

    def _scores(
        self, images: Images, pairs: Sequence[Sequence[tuple[str, str]]]
    ) -> tuple[list[np.ndarray], list[frozenset[str]]]:
        """Return N of (Q, C) float32 log-probabilities, and the names of the objects in each."""
        indices = [[(_object(one), _object(other)) for one, other in own] for own in pairs]
        # Pictures with fewer pairs are padded with any valid one, which is then cut off.
        width = max(1, *(len(own) for own in indices))
        padded = torch.tensor([own + [(0, 1)] * (width - len(own)) for own in indices])
        with torch.inference_mode():
            features = self._network.encode(_judge_images(images))
            logits = self._network.relation_logits(features, padded[..., 0], padded[..., 1])
            values = torch.log_softmax(logits.float(), dim=-1).numpy()
        there = (features.presence_logits > 0).tolist()
        return (
            [value[: len(own)] for value, own in zip(values, indices, strict=True)],
            [
                frozenset(n for n, is_there in zip(OBJECT_NAMES, row, strict=True) if is_there)
                for row in there
            ],
        )


def reading_of(
    statements: Iterable[Triple],
    *,
    scores: Mapping[tuple[str, str], np.ndarray],
    present: frozenset[str],
) -> Reading:
    """Return the verdicts on one picture's statements.

    Args:
        statements: the statements, with the predicates of the bundled world.
        scores: (subject, object) in lower case -> log-probabilities of the classes, (C,).
        present: names of the objects in the picture, in lower case.
    """
    verdicts = {}
    for triple in statements:
        values = scores[pair_of(triple)]
        relation, stated = CLASSES[int(np.argmax(values))], predicate_of(triple)
        outcome = Outcome.HOLDS
        if relation != stated:
            found = present.issuperset(pair_of(triple))
            outcome = Outcome.CONTRADICTED if found else Outcome.NOT_FOUND
        score = float(values[CLASSES.index(stated)])
        verdicts[triple] = Verdict(outcome, relation=relation, score=score)
    evidence: dict[str, Any] = {
        "scores": [
            {
                "subject": subject,
                "object": object_,
                "log_probabilities": [round(float(value), 4) for value in values],
            }
            for (subject, object_), values in scores.items()
        ],
        "present": sorted(present),
    }
    return Reading(verdicts=verdicts, present=present, evidence=evidence)


def _object(name: str) -> int:
    index = _INDEX.get(name.casefold())
    if index is None:
        raise SgfluxError(
            f"the world judge does not know the object {name!r}, only {list(OBJECT_NAMES)}; "
            "use judge 'none' for pictures of other things"
        )
    return index


def _judge_images(images: Images) -> torch.Tensor:
    try:
        return to_judge_images(images)
    except ValueError as error:
        raise SgfluxError(
            f"the world judge reads squares of a multiple of {IMAGE_SIZE} pixels: {error}"
        ) from error
