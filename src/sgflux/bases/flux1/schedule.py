"""FLUX.1's noise levels, as ``FluxPipeline`` has them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps

from sgflux.bases.family import Schedule
from sgflux.errors import SgfluxError
from sgflux.flow_matching import resolution_shift


@dataclass(frozen=True, eq=False)
class FluxScheduler:
    """See :class:`~sgflux.bases.family.Scheduler`; diffusers' own is copied before it is used."""

    scheduler: FlowMatchEulerDiscreteScheduler

    def schedule(self, steps: int, *, image_tokens: int, device: torch.device) -> Schedule:
        """See :class:`~sgflux.bases.family.Scheduler`.

        Raises:
            SgfluxError: if the scheduler itself adds noise in every step.
        """
        scheduler = copy.deepcopy(self.scheduler)
        config = scheduler.config
        if config.get("stochastic_sampling"):
            raise SgfluxError(
                "the model's scheduler has stochastic_sampling; set it to false in its "
                "scheduler_config.json, and draw with sgflux's own stochastic_sampling"
            )
        # FLUX.1-dev's shift grows with the picture; a scheduler without it ignores mu.
        mu = calculate_shift(
            image_tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        timesteps, _ = retrieve_timesteps(scheduler, steps, device, sigmas=sigmas, mu=mu)
        # diffusers' scheduler counts from 0 to 1000, its transformer from 0 to 1.
        return Schedule(timesteps / config["num_train_timesteps"], scheduler.sigmas.diff())

    def resolution_shift(self, image_tokens: int, *, always: bool) -> float:
        """See :class:`~sgflux.bases.family.Scheduler`."""
        settings = self.scheduler.config
        if not always and not settings["use_dynamic_shifting"]:
            return 1.0
        return resolution_shift(
            image_tokens,
            base_tokens=settings["base_image_seq_len"],
            max_tokens=settings["max_image_seq_len"],
            base_shift=settings["base_shift"],
            max_shift=settings["max_shift"],
        )
