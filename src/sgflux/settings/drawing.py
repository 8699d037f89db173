"""How pictures are drawn: Euler steps, strength of the graph, batches and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any

from sgflux.settings.checks import Count, Must, expect, settings, typed_settings

_STANDARD_STEPS, _STANDARD_GRAPH_SCALE = 4, 1.0  # without a recommendation

RecommendedSteps = Annotated[
    int, Must("be a whole number from 1 to 1000", lambda value: 1 <= value <= 1000)
]
RecommendedScale = Annotated[float, Must("lie between 0 and 10", lambda value: 0 <= value <= 10)]


@settings
class RecommendedDrawing:
    """How an adapter recommends that it is drawn; None: it recommends nothing."""

    steps: RecommendedSteps | None = None
    """Number of denoising steps of a picture."""
    graph_scale: RecommendedScale | None = None
    """Strength of the graph."""
    stochastic_sampling: bool | None = None
    """Whether each step draws new noise."""

    @classmethod
    def from_json(cls, entry: object) -> RecommendedDrawing:
        """Read the entry ``drawing`` of a bundle's description.

        Raises:
            ConfigError: naming the key that is unknown or has a wrong value.
        """
        names = ", ".join(one.name for one in fields(cls))
        expect(isinstance(entry, Mapping), "drawing", entry, f"be a table of {names}")
        return cls(**typed_settings(entry, cls, group="drawing."))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return what is recommended; :meth:`from_json` reads it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def chosen(
        self,
        steps: int | None = None,
        graph_scale: float | None = None,
        stochastic_sampling: bool | None = None,
        *,
        has_graph: bool = True,
    ) -> tuple[int, float, bool]:
        """Return how a picture is drawn: as given, else as recommended, else 4, 1 and False.

        Args:
            steps: Number of steps that the user gives; None: not given.
            graph_scale: Strength of the graph that the user gives; None: not given.
            stochastic_sampling: Whether the user wants new noise in each step; None: not given.
            has_graph: Whether the picture has a graph; a recommended scale is only for those.
        """
        if steps is None:
            steps = _STANDARD_STEPS if self.steps is None else self.steps
        if graph_scale is None:
            own = self.graph_scale if has_graph else None
            graph_scale = _STANDARD_GRAPH_SCALE if own is None else own
        if stochastic_sampling is None:
            stochastic_sampling = bool(self.stochastic_sampling)
        return steps, graph_scale, stochastic_sampling


NOTHING_RECOMMENDED = RecommendedDrawing()
"""Recommendation of a base alone, and of an adapter that has none."""


@settings
class DrawingSettings:
    """How pictures are drawn: Euler steps, strength of the graph and batches."""

    steps: Count | None = None
    """Number of denoising steps of a picture: 4 suit FLUX.1-schnell, 8 suit the bundled model. By
    default it is what the adapter recommends, and else 4."""
    graph_scale: float | None = None
    """Strength of the graph: 1 is as trained, 0 ignores the graph, and larger values exaggerate it.
    Any value but 1 takes a second forward pass in each step. By default it is what the adapter
    recommends, and else 1."""
    stochastic_sampling: bool | None = None
    """Draw new noise in each step, as diffusers' FlowMatchEulerDiscreteScheduler does with the
    setting of this name. By default it is what the adapter recommends, and else off."""
    batch_size: Count = 8
    """Number of pictures that are drawn at once."""


@settings
class SizeSettings:
    """Size of the pictures that the model draws or looks at, and its guidance."""

    height: int | None = None
    """Height of the pictures in pixels. By default it is the model's own size (1024 for FLUX)."""
    width: int | None = None
    """Width of the pictures in pixels. By default it is the model's own size (1024 for FLUX)."""
    guidance: float | None = None
    """Guidance that a guidance-distilled model (FLUX.1-dev) is given. By default it is 3.5 for such
    a model."""
