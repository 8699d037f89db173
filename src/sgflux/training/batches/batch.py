"""What one forward pass learns from: graphs, noisy latents and text, drawn from encoded examples.

Shapes: B examples; latents (16, h, w) as the transformer sees them (shifted and scaled); text of L
tokens with D features, and P pooled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.prompts import PROMPT_KINDS, PromptKind
from sgflux.flow_matching import sample_sigmas
from sgflux.graphs.scene_graph import SceneGraph


@dataclass(frozen=True)
class LatentScale:
    """What an autoencoder's latents go through before the transformer sees them."""

    shift: float
    scale: float

    def posterior(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latents."""
        return (mean - self.shift) * self.scale, std * self.scale


@dataclass(frozen=True)
class Batch:
    """One forward pass' worth of examples.

    Attributes:
        graphs: B graphs; the null graph where it was dropped.
        latents: Scaled latents, (B, 16, h, w) float32.
        noise: Standard normal noise, (B, 16, h, w) float32.
        sigma: Noise levels, (B,) float32 in [0, 1].
        text: Features of the texts under the base's own names, (B, ...) bf16 each.
    """

    graphs: tuple[SceneGraph, ...]
    latents: Tensor
    noise: Tensor
    sigma: Tensor
    text: Mapping[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        if device.type == "cpu":
            return self
        # Pinned, the copies run beside the computation of the step before.
        pinned = device.type == "cuda"

        def moved(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)

        return Batch(
            graphs=self.graphs,
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
        generator=generator,
    )
    weights = torch.tensor([float(prompt_weights.get(kind, 0.0)) for kind in PROMPT_KINDS])
    kinds = torch.multinomial(weights, count, replacement=True, generator=generator)
    is_null = (torch.rand(count, generator=generator) < null_graph_probability).tolist()
    return Batch(
        graphs=tuple(
            SceneGraph.null() if dropped else arrays.examples[row].graph
            for row, dropped in zip(rows, is_null, strict=True)
        ),
        latents=latents,
        noise=noise,
        sigma=sigma,
        text=arrays.text(index, kinds),
    )
