"""The two forms of the ranking loss: logistic, and with a margin.

Shapes: B examples, K negatives of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sgflux.settings.checks import Positive, settings


@settings
class RankingForm:
    """Form of the ranking loss, and the numbers that bound it.

    Attributes:
        temperature: Factor beta of the logistic form, > 0.
        ceiling: Gap beyond which the logistic form leaves a negative alone, > 0.
        margin: Margin of the margin form, > 0; None: the logistic form.
    """

    temperature: Positive
    ceiling: Positive
    margin: Positive | None = None

    def loss(self, positive: Tensor, negative: Tensor, paired: Tensor) -> Tensor:
        """Prefer the true graph over K negatives, given what each of them costs.

            logistic:  log(1 + sum_k exp(-beta * min(negative_k - positive_k, ceiling)))
            margin:    mean_k max(0, margin - (negative_k - positive_k))

        For one negative the logistic form is -log sigmoid(beta * gap); for several with a common
        positive it is InfoNCE. Both are bounded: once a gap has reached the ceiling or the margin,
        its pair has no gradient, so no negative is pushed away for ever. And the gradient in the
        positive's cost is never negative: no form rewards a worse explanation by the true graph.

        Args:
            positive: Cost of the true graph for each pair, (K, B).
            negative: Cost of the negative, (K, B).
            paired: True for the pairs that exist, (K, B) bool.

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
        counted = count > 0
        return losses.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)

    def active(self, positive: Tensor, negative: Tensor, paired: Tensor) -> Tensor:
        """Which pairs still have a gradient, (K, B) bool."""
        reach = self.ceiling if self.margin is None else self.margin
        return paired & (negative.detach() - positive.detach() < reach)
