"""How pictures are drawn: Euler steps, strength of the graph, batches and size."""

from __future__ import annotations

from sgflux.settings.checks import Count, settings


@settings
class DrawingSettings:
    """How pictures are drawn: Euler steps, strength of the graph and batches."""

    steps: Count = 4
    """Number of denoising steps of a picture: 4 suit FLUX.1-schnell, 8 suit the bundled model."""
    graph_scale: float = 1.0
    """Strength of the graph: 1 is as trained, 0 ignores the graph, and larger values exaggerate it.
    Any value but 1 takes a second forward pass in each step."""
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
