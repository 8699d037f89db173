"""Several judges as one: each statement goes to the first that covers its predicate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sgflux.evaluation.judges.judge import (
    Images,
    Judge,
    JudgeIdentity,
    Reading,
    Verdict,
    asked_of,
    predicate_of,
    read_pictures,
)
from sgflux.graphs.scene_graph import SceneGraph, Triple


class Router:
    """A judge that asks others; an object counts as found if any of them finds it."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        """Keep the judges; the order decides where several of them cover a predicate."""
        self._judges = tuple(judges)
        parts = tuple(judge.identity for judge in judges)
        self.identity = JudgeIdentity(
            ",".join(part.name for part in parts),
            digest_of(part.key for part in parts),
            model=", ".join(part.model for part in parts if part.model) or None,
            parts=parts,
        )

    def covers(self, predicate: str) -> bool:
        """See :meth:`Judge.covers`."""
        return self.asked(predicate) is not None

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """See :meth:`Judge.check`; a judge sees of each graph the statements that go to it."""
        graphs = list(graphs)
        for judge in self._judges:

            def goes_to(predicate: str, judge: Judge = judge) -> bool:
                return self.asked(predicate) is judge

            parts = (asked_of(graph, goes_to) for graph in graphs)
            judge.check(part for part in parts if part.relationships)

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        """See :meth:`Judge.read`; evidence stands under the name of its judge."""
        verdicts: list[dict[Triple, Verdict]] = [{} for _ in images]
        present: list[frozenset[str] | None] = [None] * len(images)
        evidence: list[dict[str, Mapping[str, Any]]] = [{} for _ in images]
        for judge in self._judges:
            parts = [self._part(judge, own) for own in statements]
            rows = [row for row, part in enumerate(parts) if part]
            readings = read_pictures(judge, [images[r] for r in rows], [parts[r] for r in rows])
            for row, reading in zip(rows, readings, strict=True):
                verdicts[row].update(reading.verdicts)
                evidence[row][judge.identity.name] = reading.evidence
                if reading.present is not None:
                    present[row] = (present[row] or frozenset()) | reading.present
        return [
            Reading(verdicts=said, present=there, evidence={"judges": found})
            for said, there, found in zip(verdicts, present, evidence, strict=True)
        ]

    def _part(self, judge: Judge, statements: Iterable[Triple]) -> list[Triple]:
        return [t for t in statements if self.asked(predicate_of(t)) is judge]

    def asked(self, predicate: str) -> Judge | None:
        """Return the judge that is asked about a predicate; None if none covers it."""
        return next((judge for judge in self._judges if judge.covers(predicate)), None)


def digest_of(keys: Iterable[tuple[str, str | None]]) -> str:
    """Return the SHA-256, in hex, of a router that asks judges with these keys, in this order."""
    return hashlib.sha256(json.dumps([list(key) for key in keys]).encode()).hexdigest()


def judge_asked(judge: Judge, predicate: str) -> Judge | None:
    """Return who decides about a predicate, the judge or one that it asks; None if nobody does."""
    if isinstance(judge, Router):
        return judge.asked(predicate)
    return judge if judge.covers(predicate) else None
