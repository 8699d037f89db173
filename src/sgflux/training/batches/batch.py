"""What one forward pass learns from: graphs, noisy latents and text, drawn from encoded examples.

Shapes: B examples; latents (16, h, w) as the transformer sees them (shifted and scaled); text of L
tokens with D features, and P pooled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp

import torch
from torch import Tensor

from sgflux.data.boxes import Box, Layout
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.prompts import PROMPT_KINDS, PromptKind
from sgflux.flow_matching import sample_sigmas
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.flow import Band


@dataclass(frozen=True)
class LatentScale:
    """What an autoencoder's latents go through before the transformer sees them."""

    shift: float
    scale: float

    def posterior(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents."""
        return (mean - self.shift) * self.scale, std * self.scale


@dataclass(frozen=True)
class BoxReading:
    """The boxes that a graph encoder reads in training.

    Attributes:
        layouts: Boxes of each row of the data set.
        dropout: Probability that an example is read without them.
        jitter: Standard deviation of the noise on them, as a share of the picture for centers and
            of the box for its sides.
    """

    layouts: Sequence[Layout]
    dropout: float
    jitter: float

    def draw(
        self, rows: Sequence[int], graphs: Sequence[SceneGraph], generator: torch.Generator
    ) -> tuple[Layout | None, ...]:
        """What is read of the boxes of B examples with these graphs.

        Args:
            rows: Rows of the examples.
            graphs: Graph of each; the null graph is read without boxes.
            generator: Only source of randomness.
        """
        is_read = (torch.rand(len(rows), generator=generator) >= self.dropout).tolist()
        drawn: list[Layout | None] = []
        for row, graph, reads in zip(rows, graphs, is_read, strict=True):
            layout = self.layouts[row]
            noise = self.jitter * torch.randn(len(layout), 4, generator=generator)
            known = reads and not graph.is_null and any(box is not None for box in layout)
            pairs = zip(layout, noise.tolist(), strict=True)
            moved = tuple(None if box is None else _moved(box, by) for box, by in pairs)
            drawn.append(moved if known else None)
        return tuple(drawn)


def _moved(box: Box, noise: Sequence[float]) -> Box:
    """A box whose center and (log) sides have these four numbers added."""
    x, y, width, height = noise
    center = (box.center[0] + x, box.center[1] + y)
    return Box.from_center(center, box.width * exp(width), box.height * exp(height))


@dataclass(frozen=True)
class Batch:
    """One forward pass' worth of examples.

    Attributes:
        graphs: B graphs; the null graph where it was dropped.
        latents: Scaled latents, (B, 16, h, w) float32.
        noise: Standard normal noise, (B, 16, h, w) float32.
        sigma: Noise levels, (B,) float32 in [0, 1].
        text: Features of the texts under the base's own names, (B, ...) bf16 each.
        layouts: Boxes that are read of each example, or None; None: no boxes are read at all.
    """

    graphs: tuple[SceneGraph, ...]
    latents: Tensor
    noise: Tensor
    sigma: Tensor
    text: Mapping[str, Tensor]
    layouts: tuple[Layout | None, ...] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        if device.type == "cpu":
            return self
        # Pinned, the copies run beside the computation of the step before.
        pinned = device.type == "cuda"

        def moved(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)

        return replace(
            self,
            latents=moved(self.latents),
            noise=moved(self.noise),
            sigma=moved(self.sigma),
            text={name: moved(tensor) for name, tensor in self.text.items()},
        )

    def select(self, index: Sequence[int]) -> Batch:
        """The examples at these places."""
        places = torch.tensor(index, device=self.latents.device)
        return Batch(
            graphs=tuple(self.graphs[place] for place in index),
            latents=self.latents[places],
            noise=self.noise[places],
            sigma=self.sigma[places],
            text={name: tensor[places] for name, tensor in self.text.items()},
            layouts=None if self.layouts is None else tuple(self.layouts[place] for place in index),
        )


def draw_batch(
    arrays: TrainingArrays,
    rows: Sequence[int],
    *,
    latent_scale: LatentScale,
    prompt_weights: Mapping[PromptKind, float],
    null_graph_probability: float,
    sigma_scheme: str,
    t_min: float,
    t_max: float,
    sigma_shift: float = 1.0,
    band: Band | None = None,
    boxes: BoxReading | None = None,
    generator: torch.Generator,
) -> Batch:
    """Draw everything random about one forward pass, in a fixed order, on the CPU.

    Args:
        arrays: Encoded data set.
        rows: Rows of the B examples.
        latent_scale: Shift and scale of the autoencoder that encoded them.
        prompt_weights: Kind of text -> how often it is used.
        null_graph_probability: Probability that an example goes without its graph.
        sigma_scheme: Distribution of sigma, as :func:`sgflux.flow_matching.sample_sigmas` has it.
        t_min: Lowest sigma.
        t_max: Highest sigma.
        sigma_shift: Shift of sigma towards noise, as :func:`sgflux.flow_matching.sample_sigmas` has
            it.
        band: Noise levels from which some of the examples have theirs; None: no example has.
        boxes: Boxes that the graph encoder reads; None: it reads none.
        generator: Only source of randomness.
    """
    count = len(rows)
    index = torch.tensor(rows, dtype=torch.int64)
    mean, std = latent_scale.posterior(*arrays.posterior(index))
    latents = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    sigma = sample_sigmas(
        count,
        scheme=sigma_scheme,
        t_min=t_min,
        t_max=t_max,
        shift=sigma_shift,
        band=band,
        generator=generator,
    )
    weights = torch.tensor([float(prompt_weights.get(kind, 0.0)) for kind in PROMPT_KINDS])
    kinds = torch.multinomial(weights, count, replacement=True, generator=generator)
    is_null = torch.rand(count, generator=generator) < null_graph_probability
    # A false text may not teach that its words mean the picture.
    false = kinds == PROMPT_KINDS.index("contradicting")
    kinds = kinds.masked_fill(is_null & false, PROMPT_KINDS.index("neutral"))
    graphs = tuple(
        SceneGraph.null() if dropped else arrays.examples[row].graph
        for row, dropped in zip(rows, is_null.tolist(), strict=True)
    )
    return Batch(
        graphs=graphs,
        latents=latents,
        noise=noise,
        sigma=sigma,
        text=arrays.text(index, kinds),
        layouts=None if boxes is None else boxes.draw(rows, graphs, generator),
    )
