"""Rectified flow between an image and noise: pure functions of tensors.

    z_sigma = (1 - sigma) * latents + sigma * noise,    d z_sigma / d sigma = noise - latents

sigma = 1 is noise, sigma = 0 is the image.

Shapes: B examples; latents, noise and velocity (B, ...) of equal shape; sigma (B,), one of its own
for each example, or a scalar for all of them.

Source: Liu et al. 2022, arXiv:2209.03003, Eq. 1, in the notation of Esser et al. 2024,
arXiv:2403.03206, Section 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sgflux.settings.flow import Band, SigmaScheme

SCHNELL_STEPS = 4
"""Euler steps that FLUX.1-schnell was distilled to."""


def noise_latents(latents: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """The straight line between image and noise, z_sigma = (1 - sigma) latents + sigma noise.

    Args:
        latents: Scaled latents, (B, ...).
        noise: Standard normal, (B, ...).
        sigma: (B,) or a scalar, in [0, 1].

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _expect_same_shape("noise", noise, "latents", latents)
    sigma = _per_example(sigma, latents)
    return (1 - sigma) * latents + sigma * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """What the network learns to predict, noise - latents, (B, ...).

    Raises:
        ValueError: if the shapes differ.
    """
    _expect_same_shape("noise", noise, "latents", latents)
    return noise - latents


def denoised(latents: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """The image that one straight step arrives at, z_sigma - sigma * velocity, (B, ...).

    Args:
        latents: Latents at noise level ``sigma``, (B, ...).
        velocity: Velocity predicted there, (B, ...).
        sigma: (B,) or a scalar.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    return euler_step(latents, velocity, sigma, 0.0)


def euler_step(
    latents: Tensor, velocity: Tensor, sigma: Tensor | float, sigma_next: Tensor | float
) -> Tensor:
    """One step along the flow, z + (sigma_next - sigma) * velocity, (B, ...).

    Args:
        latents: Latents at noise level ``sigma``, (B, ...).
        velocity: Velocity predicted there, (B, ...).
        sigma: (B,) or a scalar.
        sigma_next: (B,) or a scalar; less than ``sigma`` when sampling.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    _expect_same_shape("velocity", velocity, "latents", latents)
    return latents + (_per_example(sigma_next, latents) - _per_example(sigma, latents)) * velocity


def sample_sigmas(
    n: int,
    *,
    scheme: SigmaScheme | str = "uniform",
    t_min: float = 0.0,
    t_max: float = 1.0,
    shift: float = 1.0,
    band: Band | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Draw one noise level for each of ``n`` examples.

    Args:
        n: Number of examples.
        scheme: ``uniform``; ``logit_normal``: the sigmoid of a standard normal, which prefers the
            middle (Esser et al. 2024, Section 3.1, with m = 0 and s = 1); or ``schnell``: one of
            the levels at which FLUX.1-schnell is asked (1, 3/4, 1/2, 1/4), of those within
            [t_min, t_max]. The first two are stretched to [t_min, t_max].
        t_min: Lowest sigma, >= 0.
        t_max: Highest sigma, <= 1.
        shift: Shift of :func:`shifted` towards noise, > 0, applied before the stretching.
            Without effect on ``schnell``'s levels, which are fixed.
        band: Levels from which some of the examples have theirs; None: no example has.
        generator: CPU generator, the only source of randomness.

    Returns:
        (n,) float32.

    Raises:
        ValueError: on an unknown scheme or an empty interval.
    """
    if not 0 <= t_min <= t_max <= 1:
        raise ValueError(f"expected 0 <= t_min <= t_max <= 1, got {t_min} and {t_max}")
    if scheme == "schnell":
        levels = schnell_sigmas(t_min=t_min, t_max=t_max)
        return levels[torch.randint(len(levels), (n,), generator=generator)]
    if scheme == "uniform":
        unit = torch.rand(n, generator=generator, dtype=torch.float32)
    elif scheme == "logit_normal":
        unit = torch.sigmoid(torch.randn(n, generator=generator, dtype=torch.float32))
    else:
        raise ValueError(f"scheme must be 'uniform', 'logit_normal' or 'schnell', got {scheme!r}")
    levels = t_min + (t_max - t_min) * shifted(unit, shift)
    if band is None:
        return levels
    within = band.low + (band.high - band.low) * torch.rand(n, generator=generator)
    return torch.where(torch.rand(n, generator=generator) < band.share, within, levels)


def schnell_sigmas(*, t_min: float = 0.0, t_max: float = 1.0) -> Tensor:
    """The levels at which FLUX.1-schnell is asked, of those within [t_min, t_max]; float32.

    Raises:
        ValueError: if none is.
    """
    levels = inference_sigmas(SCHNELL_STEPS)[:-1]
    levels = levels[(levels >= t_min) & (levels <= t_max)]
    if not len(levels):
        raise ValueError(f"none of schnell's noise levels lies between {t_min} and {t_max}")
    return levels


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards noise: shift * sigma / (1 + (shift - 1) * sigma).

    More pixels hide less under the same noise, so larger pictures need more of it.

    Args:
        sigma: Noise levels in [0, 1], any shape.
        shift: > 0; 1 changes nothing.

    Raises:
        ValueError: if ``shift`` is not positive.

    Source:
        Esser et al. 2024, arXiv:2403.03206, Eq. 23.
    """
    if not shift > 0:
        raise ValueError(f"shift must be > 0, got {shift}")
    return sigma if shift == 1 else shift * sigma / (1 + (shift - 1) * sigma)


def resolution_shift(
    image_tokens: int,
    *,
    base_tokens: int = 256,
    max_tokens: int = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
) -> float:
    """FLUX.1-dev's shift for pictures of so many tokens, for :func:`shifted`.

        exp(mu),   mu linear in the tokens: base_shift at base_tokens, max_shift at max_tokens

    The defaults are FLUX.1's; as ``FluxPipeline`` computes it.
    """
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return math.exp(base_shift + slope * (image_tokens - base_tokens))


def sigma_grid(count: int, *, t_min: float = 0.0, t_max: float = 1.0) -> tuple[float, ...]:
    """The middles of ``count`` equal parts of t_min..t_max, ascending."""
    return tuple(t_min + (t_max - t_min) * (part + 0.5) / count for part in range(count))


def inference_sigmas(num_steps: int, *, shift: float = 1.0) -> Tensor:
    """The noise levels that ``num_steps`` Euler steps go through, from 1 down to 0.

    FluxPipeline's levels 1, ..., 1/n, and 0 under the scheduler's static ``shift``, 1 for
    FLUX.1-schnell; see :func:`shifted`.

    Returns:
        (num_steps + 1,) float32.

    Raises:
        ValueError: if ``num_steps`` is less than 1 or ``shift`` is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    levels = torch.linspace(1.0, 1.0 / num_steps, num_steps, dtype=torch.float64)
    levels = shifted(levels, shift)
    return torch.cat([levels, levels.new_zeros(1)]).float()


def _per_example(sigma: Tensor | float, latents: Tensor) -> Tensor:
    """``sigma`` in a shape that multiplies (B, ...) example by example, in at least float32."""
    if not isinstance(sigma, Tensor):
        return torch.tensor(sigma, dtype=torch.float32, device=latents.device)
    if sigma.ndim == 0:
        return sigma
    if sigma.shape != latents.shape[:1]:
        raise ValueError(
            f"sigma must be a scalar or ({latents.shape[0]},), one value for each example, "
            f"got {tuple(sigma.shape)}"
        )
    return sigma.view(-1, *(1 for _ in latents.shape[1:]))


def _expect_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} {tuple(tensor.shape)} and {other_name} {tuple(other.shape)} differ in shape"
        )
