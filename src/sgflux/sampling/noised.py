"""Pictures with noise on them, in which a model is to see something.

Shapes: B pictures, latents (B, c, h, w).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents
from sgflux.sampling.pipeline import SceneGraphFluxPipeline


def noised(
    pipeline: SceneGraphFluxPipeline, images: Tensor, *, sigma: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the latents of pictures at one noise level, and that level for each of them.

    Args:
        pipeline: Pipeline whose autoencoder encodes the pictures.
        images: Pictures (B, 3, H, W) in [-1, 1], of a size that the model takes.
        sigma: Noise level in [0, 1].
        seed: Seed of the noise, which is the same for every picture.

    Returns:
        Latents (B, c, h, w) in the pipeline's precision, and levels (B,) float32, on its device.
    """
    device = pipeline.device
    mean, _ = pipeline.autoencoder.posterior(images)
    latents = pipeline.autoencoder.scale(mean.float()).to(device)
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed))
    levels = torch.full((len(images),), sigma, device=device)
    noisy = noise_latents(latents, noise.to(device).expand_as(latents), levels)
    return noisy.to(pipeline.dtype), levels


def expect_reader(pipeline: SceneGraphFluxPipeline, *, use_adapter: bool = True) -> None:
    """Check that an adapter acts, which reads a graph.

    Raises:
        SgfluxError: if none does.
    """
    if pipeline.model is None or not use_adapter:
        raise SgfluxError("a graph needs an adapter to read it: load one, or leave the graph out")
