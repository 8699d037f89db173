"""L_gen: the flow-matching error under the true graph.

Shapes: B examples, S image tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import torch
from torch import Tensor

from sgflux.data.boxes import Layout
from sgflux.errors import SgfluxError
from sgflux.models.errors import flow_matching_loss
from sgflux.settings.flow import FlowSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.terms.regions import object_weights
from sgflux.training.terms.relation_weighting import weighted_flow_matching_loss
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss


class FlowMatching:
    """The mean over the batch of :func:`~sgflux.models.errors.flow_matching_loss`.

    With a scale s other than 1 the target of an example with a graph is moved by what the graph
    makes of the base's velocity so far, if its noise is not less than the scale is meant for:

        target = (noise - latents) + (1 - 1 / s) * (velocity - base's velocity under its own text)

    where no gradient goes through the second part. The velocity that is its own target on average
    is base + s * (data - base): an adapter that learned it needs no graph scale when it draws.

    With a share of the objects the error has the weights of
    :func:`~sgflux.training.terms.regions.object_weights`.

    Source:
        Tang et al. 2025, arXiv:2502.12154, with the frozen base in the place of the model without
        its condition.
    """

    name = "gen"
    schedule = Schedule()
    figures: Mapping[str, str | None] = {}

    def __init__(self, settings: FlowSettings, sources: Sources) -> None:
        """Read the settings.

        Raises:
            SgfluxError: if objects have a share, and no example has boxes.
        """
        self._scale, self._from = settings.flow_scale, settings.flow_scale_from
        self._share = settings.object_share
        if self._share and all(example.boxes is None for example in sources.examples):
            raise SgfluxError(
                "object_share needs boxes, and no row of the training data has any; give rows "
                "with 'boxes', or drop object_share"
            )

    def needs(self) -> Needs:
        """With a scale, a forward pass of the base in each step."""
        return Needs() if self._scale == 1 else Needs(teacher_passes=1)

    def ready(self, parts: Parts) -> TermLoss:
        """Find the objects' boxes, if they have a share."""
        layouts = parts.layouts() if self._share else None

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            target = self._scaled_target(step)
            if layouts is None and target is None:
                return step.branches.errors[0].mean(), {}
            if target is None:
                target = step.objective.target(step.batch)
            velocity = step.branches.velocity[0]
            if layouts is None:
                return flow_matching_loss(velocity, target).mean(), {}
            own = [layouts[row] for row in step.rows]
            weights = _weights(own, step.batch, velocity.shape[1], self._share)
            return weighted_flow_matching_loss(velocity, target, weights).mean(), {}

        return loss

    def _scaled_target(self, step: Step) -> Tensor | None:
        """The target of each example, (B, S, c') float32; None: it is the data's."""
        if self._scale == 1:
            return None  # without waiting for the device to tell the noise levels
        levels = step.batch.sigma.tolist()
        told = [
            place
            for place, graph in enumerate(step.batch.graphs)
            if not graph.is_null and levels[place] >= self._from
        ]
        chosen = told or step.objective.asked_at_least
        if not chosen:
            return None
        base = step.objective.base_velocity(step.batch.select(chosen)).float()
        if not told:
            return None
        places = torch.tensor(told, device=base.device)
        change = step.branches.velocity[0].detach()[places].float() - base
        target = step.objective.target(step.batch).float()
        return target.index_add(0, places, change, alpha=1 - 1 / self._scale)


def _weights(layouts: Sequence[Layout], batch: Batch, tokens: int, share: float) -> Tensor:
    """Weights of the tokens of a batch, (B, S), on its device."""
    height, width = batch.latents.shape[-2:]
    side = isqrt(height * width // tokens)  # a token is a square of latents
    grid = {"rows": height // side, "columns": width // side}
    weights = torch.stack([object_weights(own, share=share, **grid) for own in layouts])
    return weights.to(batch.latents.device)
