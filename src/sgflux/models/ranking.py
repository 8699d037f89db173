"""e(g): how badly the model explains a picture under a graph, at given noise levels.

A picture is explained best by what is true of it: e(g+) < e(g-) asks for no sampling and no judge.

Shapes: B examples; latents and noise (B, 16, h, w), scaled; S = h/2 * w/2 image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgflux.bases.flux1.latents import pack_latents
from sgflux.bases.flux1.text import TextFeatures
from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel


@torch.no_grad()
def ranking_errors_of_each(
    model: GraphLoraModel,
    *,
    latents: Tensor,
    noise: Tensor,
    sigma: Tensor,
    text_features: TextFeatures,
    alternatives: Sequence[Sequence[SceneGraph]],
    image_ids: Tensor,
    text_ids: Tensor,
    guidance: Tensor | None = None,
) -> list[Tensor]:
    """e(g) of every example under each of several graphs; their common prefix is computed once.

        e = mean[ (velocity - (noise - latents))^2 ]

    Args:
        model: Model with its adapter switched on.
        latents: Scaled latents, (B, 16, h, w).
        noise: Standard normal, (B, 16, h, w).
        sigma: Noise levels in [0, 1], (B,) float32.
        text_features: Features of B prompts.
        alternatives: Lists of B graphs each; the null graph is one, too.
        image_ids: Positions of the image tokens, (S, 3).
        text_ids: Positions of the text tokens, (L, 3).
        guidance: Guidance of a guidance-distilled model, (B,); None for any other.

    Returns:
        A tensor (B,) float32, >= 0, for each list of graphs.

    Raises:
        ValueError: if the numbers of examples differ.
        SgfluxError: if an error is not finite; the message names the graph.
    """
    for graphs in alternatives:
        if len(graphs) != latents.shape[0]:
            raise ValueError(f"{len(graphs)} graphs for {latents.shape[0]} examples")
    target = pack_latents(velocity_target(latents, noise))
    hidden = pack_latents(noise_latents(latents, noise, sigma))
    dtype = text_features.encoder_hidden_states.dtype
    # The blocks before the first adapted one know nothing of the graph.
    prefix = model.flux.prefix(
        hidden_states=hidden.to(dtype),
        encoder_hidden_states=text_features.encoder_hidden_states,
        pooled_projections=text_features.pooled_projections,
        timestep=sigma,
        img_ids=image_ids,
        txt_ids=text_ids,
        guidance=guidance,
    )
    errors = []
    for graphs in alternatives:
        velocity = model.flux.suffix(prefix, model.encoder(graphs))
        errors.append((velocity.float() - target.float()).square().flatten(1).mean(dim=1))
    for own, graphs in zip(errors, alternatives, strict=True):
        bad = (~own.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise SgfluxError(
                f"the model's error under the graph {str(graphs[bad[0]])!r} is "
                f"{float(own[bad[0]])}, no number to be ranked by ({len(bad)} of {len(own)} "
                "examples); look for weights that are not finite, or use dtype fp32"
            )
    return errors
