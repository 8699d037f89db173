"""L_gen_rel: the flow-matching error, weighted by where the relation is to be seen.

Shapes: B examples, S image tokens, C concepts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.settings.losses import WeightingSettings
from sgflux.training.terms.term import (
    ConceptWords,
    Needs,
    Parts,
    Schedule,
    Sources,
    Step,
    TermLoss,
)


class RelationWeighting:
    """Takes the place of L_gen, and equals L_gen until the weighting begins."""

    name = "gen_rel"
    schedule = Schedule()
    figures: Mapping[str, str | None] = {"loss_gen": None}

    def __init__(self, settings: WeightingSettings, sources: Sources) -> None:  # noqa: ARG002
        """Read the settings."""
        self._alpha = Schedule(
            settings.alpha_gen_rel, settings.gen_rel_start, settings.gen_rel_warm_in
        )
        self._from_boxes = settings.gen_rel_from == "boxes"

    def needs(self) -> Needs:
        """Attention to the statement's parts, unless boxes tell where the relation is."""
        return Needs(
            names=True, concepts=None if self._from_boxes else ConceptWords(read=self._alpha)
        )

    def ready(self, parts: Parts) -> TermLoss:
        """Find the regions from boxes now; those from saliency come with each step."""
        regions = parts.regions() if self._from_boxes else None

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            branches, alpha = step.branches, self._alpha.at(step.number)
            plain = branches.errors[0].mean()
            if not alpha:
                return plain, {"loss_gen": plain}
            if regions is not None:
                own = [regions[row] for row in step.rows]
                region = torch.stack(own).to(branches.errors.device)
            else:
                region = _attention_to_predicates(step)
            weights = relation_weights(region, alpha=alpha)
            target = step.objective.target(step.batch)
            errors = weighted_flow_matching_loss(branches.velocity[0], target, weights)
            return errors.mean(), {"loss_gen": plain}

        return loss


def _attention_to_predicates(step: Step) -> Tensor:
    """The map of each statement's predicate under the true graph, (B, S)."""
    assert step.branches.maps is not None, "the term's needs ask for concepts"
    pairs = zip(step.concepts, step.statements, strict=True)
    places = [2 + words[2:].index(statement.predicate) for words, statement in pairs]
    return step.branches.maps[0, torch.arange(len(places)), places]


def relation_weights(region: Tensor, *, alpha: float) -> Tensor:
    """How much each image token's error counts.

        w_n = (1 + alpha * r_n) / mean_n(1 + alpha * r_n),   r_n = region_n / max_n(region_n)

    The mean weight is 1, so that the loss keeps its scale, and its meaning where the error is the
    same everywhere.

    Args:
        region: Share of the relation at each token, >= 0, (B, S); detached here.
        alpha: Extra weight of the strongest token over a token without any, >= 0.

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

    With weights of 1 it is :func:`~sgflux.models.errors.flow_matching_loss`.

    Args:
        velocity: Predicted velocity, packed, (B, S, 64), any floating dtype.
        target: True velocity, same shape.
        weights: Weight of each token, (B, S), see :func:`relation_weights`.

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
