"""e(g): how badly the model explains a picture under a graph, at given noise levels.

    e(g) = mean[ (velocity under g - (noise - latents))^2 ]

A picture is explained best by what is true of it: e(g+) < e(g-) asks for no sampling and no judge.

Shapes: B examples; latents and noise (B, c, h, w), scaled; S image tokens of c' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgflux.bases.base import Text
from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.prefix_state import PrefixState


def flow_matching_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """e(g): the error of the predicted velocity under one graph, per example.

        e = mean_{...}[ (velocity - target)^2 ],   target = noise - latents

    Per example, because an error under g+ is only comparable with that under g- on the same
    latents, noise and sigma; the training loss L_gen is its mean over B.

    Args:
        velocity: Velocity that the model predicts, (B, ...), any floating dtype.
        target: Velocity of the straight path from the image to the noise, same shape.

    Returns:
        (B,) float32, >= 0.

    Raises:
        ValueError: if the shapes differ or there is nothing to average over.

    Source:
        Liu et al. 2022, arXiv:2209.03003, Eq. 1, with the time running from image to noise.
    """
    if velocity.shape != target.shape or velocity.ndim < 2:
        raise ValueError(
            "velocity and target must have the same shape (B, ...), "
            f"got {tuple(velocity.shape)} and {tuple(target.shape)}"
        )
    # In bf16 a mean over 2^17 squares would keep two digits.
    return (velocity.float() - target.float()).square().flatten(1).mean(dim=1)


def graph_errors(
    model: GraphLoraModel,
    prefix: PrefixState,
    target: Tensor,
    alternatives: Sequence[Sequence[SceneGraph]],
    *,
    gradient_checkpointing: bool | int = False,
) -> list[Tensor]:
    """e(g) of every example under each of several graphs, (B,) float32 for each list of graphs.

    Args:
        model: Model with its adapter switched on.
        prefix: State before the first adapted block of the B examples, shared by all graphs.
        target: Velocity that each branch should have, packed, (B, S, c').
        alternatives: Lists of B graphs each; the null graph is one, too.
        gradient_checkpointing: Recomputation, as for the conditioned model's ``forward``.
    """
    velocities = [
        model.flux.suffix(
            prefix, model.encoder(graphs), gradient_checkpointing=gradient_checkpointing
        )
        for graphs in alternatives
    ]
    return [flow_matching_loss(velocity, target) for velocity in velocities]


@torch.no_grad()
def ranking_errors_of_each(
    model: GraphLoraModel,
    *,
    latents: Tensor,
    noise: Tensor,
    sigma: Tensor,
    text: Text,
    alternatives: Sequence[Sequence[SceneGraph]],
    guidance: float | None = None,
) -> list[Tensor]:
    """:func:`graph_errors` of pictures, whose common prefix is computed once, without gradient.

    Args:
        model: Model with its adapter switched on.
        latents: Scaled latents, (B, c, h, w).
        noise: Standard normal, (B, c, h, w).
        sigma: Noise levels in [0, 1], (B,) float32.
        text: Features of B prompts.
        alternatives: Lists of B graphs each; the null graph is one, too.
        guidance: Guidance scale of a guidance-distilled model; None for any other.

    Returns:
        A tensor (B,) float32, >= 0, for each list of graphs.

    Raises:
        ValueError: if the numbers of examples differ.
        SgfluxError: if an error is not finite; the message names the graph.
    """
    for graphs in alternatives:
        if len(graphs) != latents.shape[0]:
            raise ValueError(f"{len(graphs)} graphs for {latents.shape[0]} examples")
    network = model.flux.network
    noisy = noise_latents(latents, noise, sigma)
    prefix = model.flux.prefix(network.inputs(noisy, text, sigma, guidance=guidance))
    target = network.pack(velocity_target(latents, noise))
    errors = graph_errors(model, prefix, target, alternatives)
    for own, graphs in zip(errors, alternatives, strict=True):
        bad = (~own.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise SgfluxError(
                f"the model's error under the graph {str(graphs[bad[0]])!r} is "
                f"{float(own[bad[0]])}, no number to be ranked by ({len(bad)} of {len(own)} "
                "examples); look for weights that are not finite, or use dtype fp32"
            )
    return errors
