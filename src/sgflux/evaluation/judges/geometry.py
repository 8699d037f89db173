"""A judge of spatial relations: a detector finds the objects, and rules compare their boxes.

Names may be labels: ``dog`` and ``dog#2`` are two dogs. An object that is alone of its name is the
detection with the best score. Of k objects of one name the k best detections are shared out so that
as many statements as possible hold at once; between equals, the earlier statements decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgflux.data.box_rules import find_rule
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import Detection, Detector
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
from sgflux.graphs.twins import MAX_WAYS, by_name, connected, labels_of, number_of_ways, ways

Found = Mapping[str, Detection]
"""Label of an object, in lower case -> the detection that it is taken for."""


class GeometryJudge:
    """Rules about the boxes that a detector finds.

    A statement is *not found* where the detector finds too few objects of a name, *contradicted*
    where both objects are found and the rule does not hold.
    """

    def __init__(self, detector: Detector) -> None:
        """Ask this detector where the objects are."""
        self._detector = detector
        self.identity = JudgeIdentity("geometry", detector.sha256, model=detector.name)

    def covers(self, predicate: str) -> bool:
        """See :meth:`Judge.covers`."""
        return find_rule(predicate) is not None

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`; too many objects of equal names are too many ways to try."""
        for graph in graphs:
            asked = [t for t in graph.labelled_triples() if self.covers(predicate_of(t))]
            for part in connected(asked):
                labels = labels_of(part)
                if number_of_ways(labels) > MAX_WAYS:
                    raise SgfluxError(
                        f"the geometry judge tries at most {MAX_WAYS:,} ways to tell objects of "
                        f"equal names apart, and the graph of {sorted(labels)} has more",
                        advice="; leave such graphs out, or use judge 'none'",
                    )

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`.

        What is looked for at once are the objects that statements connect, so that a verdict does
        not depend on what else is asked about the picture.
        """
        pictures = list(images)
        asked = [
            (row, part, labels_of(part))
            for row, own in enumerate(statements)
            for part in connected(own)
        ]
        detections = self._detector.find(
            [pictures[row] for row, _, _ in asked],
            [sorted(by_name(labels)) for _, _, labels in asked],
        )
        verdicts: list[dict[Triple, Verdict]] = [{} for _ in pictures]
        boxes: list[dict[str, Any]] = [{} for _ in pictures]
        for (row, part, labels), own in zip(asked, detections, strict=True):
            diagonal = math.hypot(*pictures[row].shape[:2])
            found = _best(part, labels, own, diagonal=diagonal)
            for triple in part:
                verdicts[row][triple] = Verdict(_outcome(triple, found, diagonal=diagonal))
            boxes[row].update((label, one.to_json()) for label, one in found.items())
        return [
            Reading(said, evidence={"boxes": where})
            for said, where in zip(verdicts, boxes, strict=True)
        ]


def _outcome(triple: Triple, found: Found, *, diagonal: float) -> Outcome:
    """Return the verdict on a statement where these detections are the objects."""
    subject, object_ = (found.get(label) for label in pair_of(triple))
    if subject is None or object_ is None:
        return Outcome.NOT_FOUND
    rule = find_rule(triple.predicate)
    assert rule is not None, "only covered statements are asked about"
    holds = rule(subject.box, object_.box, diagonal)
    return Outcome.HOLDS if holds else Outcome.CONTRADICTED


def _best(
    statements: Sequence[Triple],
    labels: Sequence[str],
    detections: Sequence[Detection],
    *,
    diagonal: float,
) -> Found:
    """Find the way to share out the detections in which most statements hold."""

    def holding(found: Found) -> tuple[int, tuple[bool, ...]]:
        right = tuple(
            _outcome(triple, found, diagonal=diagonal) is Outcome.HOLDS for triple in statements
        )
        return sum(right), right

    ordered = sorted(detections, key=lambda one: -one.score)
    own = {name: [one for one in ordered if one.name == name] for name in by_name(labels)}
    return max(ways(labels, own), key=holding)  # the first one of equals
