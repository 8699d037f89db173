"""A judge without a network, for tests of what several judges do together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sgflux.evaluation.judges.judge import (
    Images,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
)
from sgflux.graphs.scene_graph import SceneGraph, Triple


class Says:
    """Gives one verdict on everything it covers; remembers what it was asked."""

    def __init__(
        self,
        name: str,
        predicates: Iterable[str],
        outcome: Outcome = Outcome.HOLDS,
        *,
        finds: frozenset[str] | None = None,
        leaves_out: str = "",
    ) -> None:
        self.identity = JudgeIdentity(name, sha256=name * 4)
        self.asked: list[list[Triple]] = []
        self.checked: list[SceneGraph] = []
        self._predicates, self._outcome = set(predicates), outcome
        self._finds, self._leaves_out = finds, leaves_out

    def covers(self, predicate: str) -> bool:
        return predicate in self._predicates

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        self.checked = list(graphs)

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        self.asked += map(list, statements)
        kept = [[t for t in own if t.predicate != self._leaves_out] for own in statements]
        readings = [
            Reading({t: Verdict(self._outcome) for t in own}, present=self._finds) for own in kept
        ]
        return readings[1:] if self._leaves_out == "a picture" else readings
