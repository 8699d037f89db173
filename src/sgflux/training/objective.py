"""e(g): the flow-matching error of one batch under one or several alternative lists of graphs.

Shapes: B examples, S image tokens, L text tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.backbone import image_ids, pack_latents, text_ids
from sgflux.training.batches import Batch
from sgflux.training.losses import flow_matching_loss


class FlowMatchingObjective:
    """The model, and the inputs that are the same for every batch."""

    def __init__(
        self,
        model: GraphLoraModel,
        *,
        dtype: torch.dtype,
        guidance: float | None,
        gradient_checkpointing: bool | int,
    ) -> None:
        """Keep the parts.

        Args:
            model: to be trained.
            dtype: of the arithmetic; float32, or bfloat16 through autocast.
            guidance: what a guidance-distilled model is told; None for any other.
            gradient_checkpointing: recompute activations in the backward pass; a number n: of
                every n-th block.
        """
        self._model = model
        self._dtype = dtype
        self._guidance = guidance
        self._gradient_checkpointing = gradient_checkpointing
        self._ids: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        """e(g) for each list of B graphs, on the same latents, noise and sigma: (B,) float32 each.

        The blocks before the first adapted one know nothing of the graph and run once.
        """
        device = batch.latents.device
        count = batch.latents.shape[0]
        noisy = noise_latents(batch.latents, batch.noise, batch.sigma)
        target = pack_latents(velocity_target(batch.latents, batch.noise))
        img_ids, txt_ids = self._position_ids(noisy, batch.encoder_hidden_states)
        guidance = None
        if self._guidance is not None:
            guidance = torch.full((count,), self._guidance, device=device)
        prefix = self._model.flux.prefix(
            hidden_states=pack_latents(noisy),
            encoder_hidden_states=batch.encoder_hidden_states,
            pooled_projections=batch.pooled_projections,
            timestep=batch.sigma,
            img_ids=img_ids,
            txt_ids=txt_ids,
            guidance=guidance,
        )
        # Only here are there float32 weights among those of the base.
        with torch.autocast(device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            velocities = [
                self._model.flux.suffix(
                    prefix,
                    self._model.encoder(graphs),
                    gradient_checkpointing=self._gradient_checkpointing,
                )
                for graphs in alternatives
            ]
        return [flow_matching_loss(velocity, target) for velocity in velocities]

    def _position_ids(self, latents: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        height, width, length = latents.shape[2] // 2, latents.shape[3] // 2, text.shape[1]
        key = (height, width, length)
        if key not in self._ids:
            self._ids[key] = (
                image_ids(height, width).to(latents.device),
                text_ids(length).to(latents.device),
            )
        return self._ids[key]


def attention_kernel(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What forward and backward passes run in: on CPU, attention as its plain formula.

    The fused CPU kernel's backward pass in bf16 takes several times longer. Both passes need it:
    gradient checkpointing computes the forward again within the backward.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
