"""Losses: pure functions of tensors.

Shapes: B examples, K negatives of each, S image tokens; "..." whatever a latent picture consists
of, packed or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def flow_matching_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """e(g): the error of the predicted velocity under one graph, per example.

        e = mean_{...}[ (velocity - target)^2 ],   target = noise - latents

    Per example, because an error under g+ is only comparable with that under g- on the same
    latents, noise and sigma; the training loss L_gen is its mean over B.

    Args:
        velocity: what the model predicts, (B, ...), any floating dtype.
        target: the velocity of the straight path from the image to the noise, same shape.

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
        error_positive: e(g+), any shape.
        error_negative: e(g-) of the same latents, noise and sigma, same shape.

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
        error_positive: e(g+), any shape.
        error_negative: e(g-) of the same latents, noise and sigma, same shape.

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


def mean_of_counted(errors: Tensor, counted: Tensor) -> Tensor:
    """The mean error of the examples that count; 0 where none does.

    Args:
        errors: (B,) float32.
        counted: which examples do, (B,) bool.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: on mismatched shapes.
    """
    if errors.shape != counted.shape:
        raise ValueError(f"errors {tuple(errors.shape)} and counted {tuple(counted.shape)} differ")
    return errors.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


# --- L_gen_rel: where the relation is to be seen ------------------------------------------------


def relation_weights(region: Tensor, *, alpha: float) -> Tensor:
    """How much each image token's error counts.

        w_n = (1 + alpha * r_n) / mean_n(1 + alpha * r_n),   r_n = region_n / max_n(region_n)

    The mean weight is 1, so that the loss keeps its scale, and its meaning where the error is the
    same everywhere.

    Args:
        region: how much of the relation is at each token, >= 0, (B, S); detached here.
        alpha: how much more the strongest token counts than one without any, >= 0.

    Returns:
        (B, S) float32 without gradient; all 1 where a region is zero everywhere.

    Raises:
        ValueError: if ``alpha`` is negative or the shape is not (B, S).
    """
    if alpha < 0 or region.ndim != 2:
        raise ValueError(f"expected alpha >= 0 and (B, S), got {alpha} and {tuple(region.shape)}")
    region = region.detach().float()
    highest = region.amax(dim=1, keepdim=True)
    weights = 1 + alpha * region / highest.clamp(min=torch.finfo(torch.float32).tiny)
    return weights / weights.mean(dim=1, keepdim=True)


def weighted_flow_matching_loss(velocity: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """L_gen_rel per example: the flow-matching error with a weight for each image token.

        e_rel = mean_n[ w_n * mean_c[ (velocity - target)^2 ] ]

    With weights of 1 it is :func:`flow_matching_loss`.

    Args:
        velocity: packed, (B, S, 64), any floating dtype.
        target: same shape.
        weights: (B, S), see :func:`relation_weights`.

    Returns:
        (B,) float32, >= 0.

    Raises:
        ValueError: on shapes that do not fit together.
    """
    if velocity.shape != target.shape or velocity.shape[:2] != weights.shape:
        raise ValueError(
            "velocity and target must be (B, S, C) and weights (B, S), got "
            f"{tuple(velocity.shape)}, {tuple(target.shape)} and {tuple(weights.shape)}"
        )
    errors = (velocity.float() - target.float()).square().mean(dim=2)
    return (weights * errors).mean(dim=1)


# --- L_rel_rank: the true graph before a corrupted one ------------------------------------------


@dataclass(frozen=True)
class RankingForm:
    """Which ranking loss, and how far it pushes.

    Attributes:
        temperature: beta of the logistic form, > 0.
        ceiling: gap beyond which the logistic form leaves a negative alone, > 0.
        margin: use the margin form with this margin; None: the logistic form.
    """

    temperature: float
    ceiling: float
    margin: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is not positive.
        """
        for name in ("temperature", "ceiling", "margin"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")

    @property
    def reach(self) -> float:
        """The gap from which on a pair has no gradient."""
        return self.ceiling if self.margin is None else self.margin

    def loss(self, positive: Tensor, negative: Tensor, paired: Tensor) -> Tensor:
        """Prefer the true graph over K corrupted ones, given what each of them costs.

            logistic:  log(1 + sum_k exp(-beta * min(negative_k - positive_k, ceiling)))
            margin:    mean_k max(0, margin - (negative_k - positive_k))

        For one negative the logistic form is -log sigmoid(beta * gap); for several with a common
        positive it is InfoNCE. Both are bounded: once a gap has reached the ceiling or the margin,
        its pair has no gradient, so no negative is pushed away for ever. And the gradient in the
        positive's cost is never negative: no form rewards a worse explanation by the true graph.

        Args:
            positive: cost of the true graph for each pair, (K, B).
            negative: cost of the corrupted one, (K, B).
            paired: which pairs exist, (K, B) bool.

        Returns:
            Scalar float32: the mean over the examples that have a pair; 0 without any.

        Raises:
            ValueError: if the shapes differ.

        Source:
            Rafailov et al. 2023, arXiv:2305.18290, Eq. 7, with conditions instead of samples; van
            den Oord et al. 2018, arXiv:1807.03748, Eq. 4.
        """
        if not positive.shape == negative.shape == paired.shape or positive.ndim != 2:
            raise ValueError(
                "positive, negative and paired must have one shape (K, B), got "
                f"{tuple(positive.shape)}, {tuple(negative.shape)} and {tuple(paired.shape)}"
            )
        gap = negative.float() - positive.float()
        count = paired.sum(dim=0)
        if self.margin is None:
            exponent = -self.temperature * gap.clamp(max=self.ceiling)
            exponent = exponent.masked_fill(~paired, -torch.inf)
            # The positive itself is the zero among the exponents.
            losses = torch.cat([torch.zeros_like(exponent[:1]), exponent]).logsumexp(dim=0)
        else:
            short = (self.margin - gap).clamp(min=0).masked_fill(~paired, 0.0)
            losses = short.sum(dim=0) / count.clamp(min=1)
        return mean_of_counted(losses, count > 0)

    def active(self, positive: Tensor, negative: Tensor, paired: Tensor) -> Tensor:
        """Which pairs still have a gradient, (K, B) bool."""
        return paired & (negative.detach() - positive.detach() < self.reach)


def ramp(step: int, *, start: int, warm_in: int) -> float:
    """How much of its weight a term has in a step: 0 before ``start``, then linearly up to 1.

    The first of ``warm_in`` steps has a share already; without any the weight is full at once.

    Args:
        step: from 0.
        start: steps without the term.
        warm_in: steps in which it grows.
    """
    if step < start:
        return 0.0
    return min(1.0, (step - start + 1) / (warm_in + 1))
