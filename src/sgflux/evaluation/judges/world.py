"""The bundled world's judge as one of the judges of an evaluation.

Shapes: N pictures, C classes (predicates, then "none").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import (
    NONE,
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
    asked_of,
    pair_of,
    predicate_of,
)
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.graphs.twins import MAX_WAYS, connected, labels_of, number_of_ways
from sgflux.world.judge import CLASSES, IMAGE_SIZE, WorldJudge, read_judge, to_judge_images
from sgflux.world.reading import object_index, read_relations
from sgflux.world.scenes import PREDICATES


class WorldJudgeAdapter:
    """The network of :mod:`sgflux.world.judge` as a judge.

    A statement holds if its predicate is the likeliest class of its pair, whether or not the
    network finds the two objects. Objects of one name are told apart as
    :mod:`sgflux.world.reading` says; where fewer are found, statements are not found.
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
        """See :meth:`Judge.check`; too many objects of equal names are too many ways to try."""
        for graph in graphs:
            for name in graph.objects:
                object_index(name)
            for part in connected(asked_of(graph, self.covers).labelled_triples()):
                if number_of_ways(labels_of(part)) > MAX_WAYS:
                    raise SgfluxError(
                        f"the world judge tries at most {MAX_WAYS:,} ways to tell objects of equal "
                        f"names apart, and the graph of {sorted(labels_of(part))} has more",
                        advice="; leave such graphs out, or use judge 'none'",
                    )

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`; pictures are squares of a multiple of 64 pixels."""
        readings: list[Reading] = []
        for start in range(0, len(images), self._batch_size):
            window = slice(start, start + self._batch_size)
            found = read_relations(self._network, _judge_images(images[window]), statements[window])
            readings += [
                reading_of(own, scores=relations.scores, present=relations.present)
                for own, relations in zip(statements[window], found, strict=True)
            ]
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


def reading_of(
    statements: Iterable[Triple],
    *,
    scores: Mapping[tuple[str, str], np.ndarray],
    present: frozenset[str],
) -> Reading:
    """Return the verdicts on one picture's statements.

    Args:
        statements: the statements, with the predicates of the bundled world.
        scores: (subject, object) in lower case -> log-probabilities of the classes, (C,). Pairs of
            twins that the picture does not show are missing.
        present: labels of the objects in the picture, in lower case.
    """
    verdicts = {}
    for triple in statements:
        values = scores.get(pair_of(triple))
        if values is None:
            verdicts[triple] = Verdict(Outcome.NOT_FOUND, relation=NONE)
            continue
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


def _judge_images(images: Images) -> torch.Tensor:
    try:
        return to_judge_images(images)
    except ValueError as error:
        raise SgfluxError(
            f"the world judge reads squares of a multiple of {IMAGE_SIZE} pixels: {error}"
        ) from error
