"""e(g), the flow-matching error under a graph, and how two such errors compare.

Shapes: B examples; "..." whatever a latent picture consists of, packed or not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ranking_accuracy(error_positive: Tensor, error_negative: Tensor) -> Tensor:
    """How often the true graph explains the same noisy latents better than a negative.

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
    """Whether the true graph explains the same noisy latents better than a negative.

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
