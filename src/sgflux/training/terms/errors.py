"""e(g), the flow-matching error under a graph, and how two such errors compare.

Shapes: B examples; "..." whatever a latent picture consists of, packed or not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def flow_matching_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """e(g): the error of the predicted velocity under one graph, per example.

        e = mean_{...}[ (velocity - target)^2 ],   target = noise - latents

    Per example, because an error under g+ is only comparable with that under g- on the same
    latents, noise and sigma; the training loss L_gen is its mean over B.

    Args:
        velocity: Velocity that the model predicts, (B, ...), any floating dtype.
        target: Velocity of the straight path from the image to the noise, same shape.

    Returns:
        (B,) float32, >= 0.

    Raises:
        ValueError: if the shapes differ or there is nothing to average over.

    Source:
        Liu et al. 2022, arXiv:2209.03003, Eq. 1, with the time running from image to noise.
    """
    if velocity.shape != target.shape or velocity.ndim < 2:
        raise ValueError(
            "velocity and target must have the same shape (B, ...), "
            f"got {tuple(velocity.shape)} and {tuple(target.shape)}"
        )
    # In bf16 a mean over 2^17 squares would keep two digits.
    return (velocity.float() - target.float()).square().flatten(1).mean(dim=1)


def ranking_accuracy(error_positive: Tensor, error_negative: Tensor) -> Tensor:
    """How often the true graph explains the same noisy latents better than a corrupted one.

    Args:
        error_positive: Error e(g+), any shape.
        error_negative: Error e(g-) on the same latents, noise and sigma, same shape.

    Returns:
        Scalar float32 in [0, 1], the mean of :func:`preference`; NaN if there is nothing to
        compare.

    Raises:
        ValueError: if the shapes differ.
    """
    return preference(error_positive, error_negative).mean()


def preference(error_positive: Tensor, error_negative: Tensor) -> Tensor:
    """Whether the true graph explains the same noisy latents better than a corrupted one.

    A tie counts one half, so that a model that ignores the graph scores chance, not zero.

    Args:
        error_positive: Error e(g+), any shape.
        error_negative: Error e(g-) on the same latents, noise and sigma, same shape.

    Returns:
        1, 1/2 or 0, same shape, float32 without gradient.

    Raises:
        ValueError: if the shapes differ.
    """
    if error_positive.shape != error_negative.shape:
        raise ValueError(
            "error_positive and error_negative must have the same shape, "
            f"got {tuple(error_positive.shape)} and {tuple(error_negative.shape)}"
        )
    better = torch.sign(error_negative.detach() - error_positive.detach()).float()
    return 0.5 + 0.5 * better
