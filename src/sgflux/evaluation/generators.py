"""What draws the pictures of an evaluation: the protocol, and the model under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from sgflux.data.boxes import Layout
from sgflux.evaluation.arms import PictureRequest
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.boxes import BoxesInput


class Generator(Protocol):
    """Draws what it is asked for.

    Attributes:
        name: says who drew, in results.
    """

    name: str

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        """Draw (B, H, W, 3) uint8, one picture for each of B requests of one arm."""

    def record(self, request: PictureRequest) -> dict[str, Any]:
        """Return how a request's picture is made, as plain JSON: equal records, equal pictures."""


class ModelGenerator:
    """The model under test."""

    def __init__(
        self,
        pipeline: SceneGraphFluxPipeline,
        *,
        steps: int,
        graph_scale: float = 1.0,
        stochastic_sampling: bool = False,
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
        boxes: Literal["predicted", "none"] | None = None,
        oracle: Mapping[int, Layout] | None = None,
    ) -> None:
        """Keep the pipeline and its settings, see :meth:`SceneGraphFluxPipeline.__call__`.

        Args:
            pipeline: Pipeline of the model.
            steps, graph_scale, stochastic_sampling, guidance, height, width, boxes: Settings of its
                pictures.
            oracle: Row of an item -> its true boxes, which the arms with its own graph are given in
                place of ``boxes``; None: true boxes are not used.
        """
        self.name = "model"
        self._pipeline = pipeline
        self._graph_scale = graph_scale
        self._boxes, self._oracle = boxes, oracle
        self._settings: dict[str, Any] = {
            "steps": steps,
            "stochastic_sampling": stochastic_sampling,
            "guidance": guidance,
            "height": height,
            "width": width,
        }

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        """Draw (B, H, W, 3) uint8, one picture for each of B requests of one arm."""
        return self._pipeline.sample_batch(
            [request.graph for request in requests],
            [request.prompt for request in requests],
            [request.seed for request in requests],
            **self._of(requests[0]),
            boxes=self._boxes_of(requests),
        )

    def record(self, request: PictureRequest) -> dict[str, Any]:
        """Return how a request's picture is made, as plain JSON: equal records, equal pictures."""
        return self._pipeline.record(
            graph=request.graph,
            prompt=request.prompt,
            seed=request.seed,
            **self._of(request),
            boxes=self._boxes_of([request]),
        )

    def _boxes_of(self, requests: Sequence[PictureRequest]) -> BoxesInput:
        """Return the boxes of requests of one arm."""
        if requests[0].graph is None:
            return None
        if self._oracle is None or requests[0].graph != requests[0].item.graph:
            return self._boxes
        return [self._oracle[request.item.row] for request in requests]

    def _of(self, request: PictureRequest) -> dict[str, Any]:
        """Return the settings of the request's arm."""
        return {
            **self._settings,
            "graph_scale": 1.0 if request.graph is None else self._graph_scale,
            "use_adapter": request.use_adapter,
        }
