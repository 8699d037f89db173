"""Pictures of latents, and the result of a call of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgflux.bases.family import Autoencoder

_DECODED_AT_ONCE = 8 * 1024 * 1024  # pixels


@dataclass(frozen=True)
class PipelineOutput:
    """Result of a call of the pipeline.

    Attributes:
        images: PIL pictures; (B, H, W, 3) float32 in [0, 1] for ``np``; packed latents (B, S, c)
            for ``latent``.
        prompts: Text of each picture.
        seeds: Seed of each picture's noise; None if the caller's generator drew it.
    """

    images: Any
    prompts: tuple[str, ...]
    seeds: tuple[int, ...] | None


def decoded(autoencoder: Autoencoder, latents: Tensor) -> np.ndarray:
    """Decode latents, a few at once: pixels take far more memory than latents.

    Args:
        autoencoder: Autoencoder of the base.
        latents: Latents (B, c, h, w) in the transformer's units.

    Returns:
        Pictures (B, H, W, 3), float32 in [0, 1].
    """
    pixels = latents.shape[2] * latents.shape[3] * autoencoder.downsample**2
    at_once = max(1, _DECODED_AT_ONCE // pixels)
    with torch.inference_mode():
        parts = [autoencoder.decode(part) for part in latents.split(at_once)]
    return torch.cat(parts).permute(0, 2, 3, 1).cpu().numpy()


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pictures in [0, 1] as bytes, rounded as diffusers does it."""
    return (images * 255).round().astype(np.uint8)


def to_pil(images: np.ndarray) -> list[Image.Image]:
    """Pictures (B, H, W, 3) in [0, 1] as PIL pictures, rounded as diffusers does it."""
    return [Image.fromarray(picture) for picture in to_uint8(images)]
