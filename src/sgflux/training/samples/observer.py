"""What a training knows of the judge of its pictures; the judges themselves are in evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from sgflux.graphs.scene_graph import SceneGraph, Triple

VERDICTS = ("holds", "contradicted", "not found")
"""What an observer may say of a statement; :class:`~sgflux.evaluation.judges.judge.Outcome`."""


class Observer(Protocol):
    """Judges pictures that are drawn during a training.

    :class:`sgflux.evaluation.observing.JudgeObserver` is the implementation by any judge.
    """

    @property
    def name(self) -> str:
        """Name of the judge."""

    def refusal(self, graph: SceneGraph) -> str | None:
        """Why the judge cannot judge pictures of a graph; None if it can."""

    def read(
        self, pictures: Sequence[np.ndarray], graphs: Sequence[SceneGraph]
    ) -> list[Mapping[Triple, str]]:
        """Judge pictures by the statements of their graphs.

        Args:
            pictures: N pictures, (H, W, 3) uint8 each.
            graphs: N graphs.

        Returns:
            N times statement -> one of :data:`VERDICTS`, of the statements that the judge covers.

        Raises:
            SgfluxError: if the judge cannot read such pictures.
        """
