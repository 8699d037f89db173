"""What draws the pictures of an evaluation: the protocol, and the model under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sgflux.evaluation.arms import PictureRequest
from sgflux.sampling import SceneGraphFluxPipeline


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
        guidance: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        """Keep the pipeline and its settings, see :meth:`SceneGraphFluxPipeline.__call__`."""
        self.name = "model"
        self._pipeline = pipeline
        self._graph_scale = graph_scale
        self._settings: dict[str, Any] = {
            "steps": steps,
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
        )

    def record(self, request: PictureRequest) -> dict[str, Any]:
        """Return how a request's picture is made, as plain JSON: equal records, equal pictures."""
        return self._pipeline.record(
            graph=request.graph, prompt=request.prompt, seed=request.seed, **self._of(request)
        )

    def _of(self, request: PictureRequest) -> dict[str, Any]:
        """Return the settings of the request's arm."""
        return {
            **self._settings,
            "graph_scale": 1.0 if request.graph is None else self._graph_scale,
            "use_adapter": request.use_adapter,
        }
