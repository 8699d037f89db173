"""L_gen: the flow-matching error under the true graph."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sgflux.training.terms.term import Needs, Parts, Schedule, Step, TermLoss


class FlowMatching:
    """The mean over the batch of :func:`~sgflux.models.errors.flow_matching_loss`."""

    name = "gen"
    schedule = Schedule()
    figures: Mapping[str, str | None] = {}

    def needs(self) -> Needs:
        """Nothing beside the batch."""
        return Needs()

    def ready(self, parts: Parts) -> TermLoss:  # noqa: ARG002
        """The term needs no part."""
        return self

    def __call__(self, step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The error of branch 0."""
        return step.branches.errors[0].mean(), {}
