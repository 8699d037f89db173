"""Where in a picture FLUX sees a concept: concept attention maps.

Raw scores come from :func:`concept_attention_maps` here, or from
:meth:`sgflux.models.conditioning.ConditionedFlux.suffix_with_concepts` where a graph takes part;
the other functions make maps of them.

Shapes: B batch, C concepts, S image tokens, L text tokens, M chosen blocks.

Source: Helbling et al. 2025, arXiv:2502.04320.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.base import Network, Text
from sgflux.bases.families import network_of
from sgflux.bases.memory.recomputation import Recompute
from sgflux.models.block_range import check_concept_blocks


def concept_attention_maps(
    transformer: Any,
    *,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    concept_states: Tensor,
    pooled_projections: Tensor,
    concept_pooled_projections: Tensor,
    timestep: Tensor,
    img_ids: Tensor,
    txt_ids: Tensor,
    blocks: Sequence[int],
    guidance: Tensor | None = None,
) -> Tensor:
    """Raw scores of every concept at every image token, differentiable.

    The blocks after the last one asked for are not run. Activations are recomputed in the backward
    pass where diffusers' own ``enable_gradient_checkpointing()`` is on. Nothing is hooked, and the
    transformer is left as it was.

    Args:
        transformer: diffusers' model, with or without LoRA in it.
        hidden_states: packed noisy latents, (B, S, 64).
        encoder_hidden_states: T5 features of the prompt, (B, L, D_t5).
        concept_states: T5 features of the concepts, one token each, (B, C, D_t5).
        pooled_projections: CLIP features of the prompt, (B, D_clip).
        concept_pooled_projections: CLIP features that modulate the concepts, (B, D_clip).
        timestep: sigma in [0, 1], (B,) float32.
        img_ids: positions, (S, 3).
        txt_ids: positions, (L, 3).
        blocks: whose scores are returned: indices of double blocks, each at most once.
        guidance: Guidance scale, for a guidance-distilled model only, (B,) float32.

    Returns:
        (M, B, C, S) float32, in the order of ``blocks``; any real number.

    Raises:
        SgfluxError: if ``blocks`` does not fit the model, or a block's attention is not FLUX's
            plain one.
        ValueError: if ``guidance`` does not fit the model.
    """
    network = network_of(transformer)
    recompute = transformer.gradient_checkpointing and torch.is_grad_enabled()
    return concept_scores(
        network,
        SimpleNamespace(
            hidden_states=hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=pooled_projections,
            timestep=timestep,
            img_ids=img_ids,
            txt_ids=txt_ids,
            guidance=guidance,
        ),
        concepts=concept_states,
        concept_text={"pooled": concept_pooled_projections},
        blocks=blocks,
        run=Recompute(int(recompute)),
    )


def concept_scores(
    network: Network,
    inputs: Any,
    *,
    concepts: Tensor,
    concept_text: Text,
    blocks: Sequence[int],
    run: Recompute | None = None,
) -> Tensor:
    """Raw scores of every concept at every image token in a base without a graph, differentiable.

    The blocks after the last one asked for are not run.

    Args:
        network: Network of the base, with or without LoRA in it.
        inputs: Inputs of the network for B examples.
        concepts: Features of the concepts, one token each, (B, C, D_text).
        concept_text: Features of the texts that modulate the concepts.
        blocks: Blocks whose scores are returned, each at most once.
        run: Calls the blocks, with recomputation or without; None: without.

    Returns:
        (M, B, C, S) float32, in the order of ``blocks``; any real number.

    Raises:
        SgfluxError: if ``blocks`` does not fit the model, or a block cannot take concepts.
    """
    check_concept_blocks(blocks, num_layers=network.num_layers)
    run = Recompute(0) if run is None else run
    state = network.embed(inputs, concepts=concepts, concept_text=concept_text)
    for index in range(max(blocks) + 1):
        network.check_block(index)
    scores = []
    for block in network.blocks[: max(blocks) + 1]:
        state, _, found = run(block.with_concepts, state, None)
        scores.append(found)
    return torch.stack([scores[index] for index in blocks])


# --- from scores to maps ------------------------------------------------------------------------


def concept_probabilities(scores: Tensor) -> Tensor:
    """To which concept each image token belongs: softmax over concepts, then mean over blocks.

    Args:
        scores: Raw scores, (M, B, C, S).

    Returns:
        (B, C, S) in [0, 1]; sums to 1 over the concepts.

    Raises:
        ValueError: if the scores have another shape.
    """
    if scores.ndim != 4:
        raise ValueError(f"scores must be (M, B, C, S), got {tuple(scores.shape)}")
    return scores.softmax(dim=2).mean(dim=0)


def softened(scores: Tensor) -> Tensor:
    """Raw scores in units of their own spread over concepts, block by block.

        softened = apart / sqrt(mean_{c,s}[apart^2]),   apart = scores - mean_c[scores]

    A raw score is a sum over all of D, and concepts differ by hundreds (tiny-flux: 100 to 500), so
    that their softmax is 0 or 1 everywhere: as a picture without shades, as a loss without
    gradient. The spread itself is a constant to the gradient.

    Args:
        scores: raw, (M, B, C, S).

    Returns:
        Same shape, float32; all 0 where the concepts do not differ.
    """
    apart = scores.float() - scores.float().mean(dim=2, keepdim=True)
    spread = apart.detach().square().mean(dim=(2, 3), keepdim=True).sqrt()
    return apart / spread.clamp(min=torch.finfo(torch.float32).tiny)
