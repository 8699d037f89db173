"""A judge as a training knows it: verdicts in words on the statements of whole graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.judge import Judge, read_pictures
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.judges import JudgeSettings


class JudgeObserver:
    """Any judge, for pictures that are drawn during a training.

    It implements ``Observer`` of :mod:`sgflux.training.samples.observer`.
    """

    def __init__(self, judge: Judge) -> None:
        """Keep the judge."""
        self._judge = judge

    @property
    def name(self) -> str:
        """Name of the judge."""
        return self._judge.identity.name

    def refusal(self, graph: SceneGraph) -> str | None:
        """Why the judge cannot judge pictures of a graph; None if it can."""
        try:
            self._judge.check([graph])
        except SgfluxError as error:
            return str(error)
        return None

    def read(
        self, pictures: Sequence[np.ndarray], graphs: Sequence[SceneGraph]
    ) -> list[Mapping[Triple, str]]:
        """Give verdicts on the statements of each picture's graph that the judge covers.

        Args:
            pictures: N pictures, (H, W, 3) uint8 each.
            graphs: N graphs.

        Raises:
            SgfluxError: if the judge cannot read such pictures.
        """
        stated = [graph.labelled_triples() for graph in graphs]
        readings = read_pictures(self._judge, list(pictures), stated)
        return [
            {one: read.verdicts[one].outcome.value for one in own if one in read.verdicts}
            for own, read in zip(stated, readings, strict=True)
        ]


def make_observer(names: str, settings: JudgeSettings, *, device: str) -> JudgeObserver:
    """Load the judge that reads the pictures of a training.

    Args:
        names: Names of judges, with commas between.
        settings: Models that the judges ask.
        device: Device of these models.

    Raises:
        SgfluxError: on an unknown name, or if a model cannot be loaded.
    """
    judge = make_judge(names, Means(settings=settings, device=device))
    if judge is None:
        raise SgfluxError(f"judge {names!r} reads no pictures")
    return JudgeObserver(judge)
