"""L_anchor: staying near the base's velocity at the noise levels of its four-step sampling."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sgflux.settings.losses import AnchorSettings
from sgflux.training.randomness import generator_for
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss


class Anchor:
    """Mean distance from the base's velocity, on random levels of its four-step sampling."""

    name = "anchor"
    figures: Mapping[str, str | None] = {}

    def __init__(self, settings: AnchorSettings, sources: Sources) -> None:  # noqa: ARG002
        """Read the settings."""
        self.schedule = Schedule(
            settings.lambda_anchor, settings.anchor_start, settings.anchor_warm_in
        )

    def needs(self) -> Needs:
        """Nothing beside the batch."""
        return Needs()

    def ready(self, parts: Parts) -> TermLoss:
        """Take the noise levels; a scheduler that cannot be loaded is found now."""
        parts.sampling_sigmas(parts.image_tokens)

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            latents = step.batch.latents
            levels = parts.sampling_sigmas(step.branches.velocity.shape[2])
            generator = generator_for(parts.seed, "anchor", *step.draws)
            drawn = torch.randint(len(levels), (len(latents),), generator=generator)
            sigma = levels[drawn].to(latents.device)
            return step.objective.anchor_errors(step.batch, sigma).mean(), {}

        return loss
