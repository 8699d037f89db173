"""The Fréchet distance between two sets of pictures, from a network's features of them."""

from __future__ import annotations

import numpy as np


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """How far apart two sets of pictures are, as Gaussians over a network's features.

        d = |m - m_ref|^2 + Tr(S + S_ref - 2 (S S_ref)^(1/2))

    It is biased upwards where pictures are few: read it beside the distance of two sets that
    differ by their noise alone.

    Args:
        features: (N, D) float, N > 1.
        reference: (M, D) float, M > 1, of the same network.

    Returns:
        At least 0, in squared units of the features.

    Raises:
        ValueError: on shapes that do not fit.

    Source:
        Heusel et al. 2017, arXiv:1706.08500, Eq. 6.
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features {features.shape} and reference {reference.shape}: expected (N, D), (M, D)"
        )
    if min(len(features), len(reference)) < 2:
        raise ValueError("a covariance needs at least two pictures on either side")
    ours, theirs = (np.asarray(part, np.float64) for part in (features, reference))
    covariance, other = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (ours, theirs))
    # (S S_ref)^(1/2) has the trace of (R S_ref R)^(1/2) with R = S^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    apart = ((ours.mean(0) - theirs.mean(0)) ** 2).sum()
    return max(0.0, float(apart + np.trace(covariance) + np.trace(other) - 2 * shared))
