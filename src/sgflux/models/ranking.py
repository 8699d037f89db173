"""e(g): how badly the model explains a picture under a graph, at given noise levels.

A picture is explained best by what is true of it: e(g+) < e(g-) asks for no sampling and no judge.

Shapes: B examples; latents and noise (B, 16, h, w), scaled; S = h/2 * w/2 image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.backbone import TextFeatures, pack_latents


def ranking_errors(
    model: GraphLoraModel,
    *,
    latents: Tensor,
    noise: Tensor,
    sigma: Tensor,
    text_features: TextFeatures,
    graphs: Sequence[SceneGraph],
    image_ids: Tensor,
    text_ids: Tensor,
    guidance: Tensor | None = None,
) -> Tensor:
    """e(g) of every example under its graph.

        e = mean[ (velocity - (noise - latents))^2 ]

    Args:
        model: with its adapter on.
        latents: scaled, (B, 16, h, w).
        noise: standard normal, (B, 16, h, w).
        sigma: (B,) float32 in [0, 1].
        text_features: of B prompts.
        graphs: B of them; the null graph is one, too.
        image_ids: (S, 3).
        text_ids: (L, 3).
        guidance: (B,) for a guidance-distilled model, None for any other.

    Returns:
        (B,) float32, >= 0.

    Raises:
        ValueError: if the numbers of examples differ.
    """
    (errors,) = ranking_errors_of_each(
        model,
        latents=latents,
        noise=noise,
        sigma=sigma,
        text_features=text_features,
        alternatives=[graphs],
        image_ids=image_ids,
        text_ids=text_ids,
        guidance=guidance,
    )
    return errors


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
    """As :func:`ranking_errors` for several lists of graphs; what they share is computed once.

    Raises:
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
