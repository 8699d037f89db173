"""L_gen: the flow-matching error under the true graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.models.errors import flow_matching_loss
from sgflux.training.terms.term import Needs, Parts, Schedule, Step, TermLoss


class FlowMatching:
    """The mean over the batch of :func:`~sgflux.models.errors.flow_matching_loss`.

    With a scale s other than 1 the target of an example with a graph is moved by what the graph
    makes of the base's velocity so far, if its noise is not less than the scale is meant for:

        target = (noise - latents) + (1 - 1 / s) * (velocity - base's velocity under its own text)

    where no gradient goes through the second part. The velocity that is its own target on average
    is base + s * (data - base): an adapter that learned it needs no graph scale when it draws.

    Source:
        Tang et al. 2025, arXiv:2502.12154, with the frozen base in the place of the model without
        its condition.
    """

    name = "gen"
    schedule = Schedule()
    figures: Mapping[str, str | None] = {}

    def __init__(self, scale: float = 1.0, *, scale_from: float = 0.0) -> None:
        """Keep the scale, at least 1, and the lowest sigma at which it applies."""
        self._scale, self._from = scale, scale_from

    def needs(self) -> Needs:
        """With a scale, a forward pass of the base in each step."""
        return Needs() if self._scale == 1 else Needs(teacher_passes=1)

    def ready(self, parts: Parts) -> TermLoss:  # noqa: ARG002
        """The term needs no part."""
        return self

    def __call__(self, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The error of branch 0."""
        errors = step.branches.errors[0]
        if self._scale == 1:
            return errors.mean(), {}  # without waiting for the device to tell the noise levels
        levels = step.batch.sigma.tolist()
        told = [
            place
            for place, graph in enumerate(step.batch.graphs)
            if not graph.is_null and levels[place] >= self._from
        ]
        chosen = told or step.objective.asked_at_least
        if not chosen:
            return errors.mean(), {}
        own = step.batch.select(chosen)
        base = step.objective.base_velocity(own).float()
        if not told:
            return errors.mean(), {}
        places = torch.tensor(told, device=errors.device)
        velocity = step.branches.velocity[0][places].float()
        change = velocity.detach() - base
        target = step.objective.target(own).float() + (1 - 1 / self._scale) * change
        return errors.index_copy(0, places, flow_matching_loss(velocity, target)).mean(), {}
