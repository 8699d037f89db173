"""Where in a picture FLUX sees a concept: concept attention maps.

Raw scores come from :func:`concept_attention_maps` here, or from
:meth:`sgflux.models.conditioning.ConditionedFlux.forward_with_concepts` where a graph takes part;
the other functions make maps of them.

Shapes: B batch, C concepts, S image tokens, L text tokens, M chosen blocks.

Source: Helbling et al. 2025, arXiv:2502.04320.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sgflux.bases.flux1.concept_block import concept_block
from sgflux.bases.flux1.graph_block import check_plain_attention
from sgflux.errors import SgfluxError


def concept_attention_maps(
    transformer: FluxTransformer2DModel,
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
    check_concept_blocks(blocks, num_layers=len(transformer.transformer_blocks))
    used = transformer.transformer_blocks[: max(blocks) + 1]
    for index, block in enumerate(used):
        check_plain_attention(block.attn, index)
    recompute = transformer.gradient_checkpointing and torch.is_grad_enabled()
    run: Any = partial(checkpoint, use_reentrant=False) if recompute else _call

    dtype = transformer.x_embedder.weight.dtype
    image = transformer.x_embedder(hidden_states.to(dtype))
    text = transformer.context_embedder(encoder_hidden_states.to(dtype))
    concepts = transformer.context_embedder(concept_states.to(dtype))
    temb = embed_time(transformer, timestep, guidance, pooled_projections.to(dtype))
    concept_temb = embed_time(transformer, timestep, guidance, concept_pooled_projections.to(dtype))
    rotary = transformer.pos_embed(torch.cat((txt_ids, img_ids), dim=0))
    scores = []
    for block in used:
        text, image, _, concepts, found = run(
            concept_block, block, image, text, temb, rotary, None, concepts, concept_temb
        )
        scores.append(found)
    return torch.stack([scores[index] for index in blocks])


def embed_time(
    transformer: FluxTransformer2DModel, timestep: Tensor, guidance: Tensor | None, pooled: Tensor
) -> Tensor:
    """The modulation of a timestep and a pooled text, (B, D).

    diffusers rounds the timestep to the hidden states' precision first; in bf16 that merges 730 and
    732, so here it keeps its own.

    Args:
        transformer: whose embedding it is.
        timestep: sigma in [0, 1], (B,) float32.
        guidance: (B,) float32 for a guidance-distilled model, and only for it.
        pooled: (B, D_clip).

    Raises:
        ValueError: if ``guidance`` does not fit the model.
    """
    embed = transformer.time_text_embed
    if transformer.config.guidance_embeds:
        if guidance is None:
            raise ValueError("this model is guidance-distilled: it needs `guidance`")
        return embed(timestep * 1000, guidance * 1000, pooled)
    if guidance is not None:
        raise ValueError("`guidance` has no effect: this model is not guidance-distilled")
    return embed(timestep * 1000, pooled)


def default_concept_blocks(num_layers: int) -> tuple[int, ...]:
    """The later half of the double blocks, as the paper has it: 9 to 18 of FLUX's 19."""
    return tuple(range(num_layers // 2, num_layers))


def check_concept_blocks(blocks: Sequence[int], *, num_layers: int) -> None:
    """Check that ``blocks`` are different double blocks of a model, at least one.

    Raises:
        SgfluxError: if they are not.
    """
    if not blocks or len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(num_layers)):
        raise SgfluxError(
            f"blocks of concept maps must be different double blocks between 0 and "
            f"{num_layers - 1}, at least one, got {list(blocks)}"
        )


# --- from scores to maps ------------------------------------------------------------------------


def concept_probabilities(scores: Tensor, chosen: Tensor | None = None) -> Tensor:
    """To which concept each image token belongs: softmax over concepts, then mean over blocks.

    Args:
        scores: raw, (M, B, C, S).
        chosen: which concepts compete in each example, (B, K) int64 indices into C; None: all.

    Returns:
        (B, C, S), or (B, K, S) with ``chosen``, in [0, 1]; sums to 1 over the concepts.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if scores.ndim != 4:
        raise ValueError(f"scores must be (M, B, C, S), got {tuple(scores.shape)}")
    if chosen is not None:
        if chosen.ndim != 2 or chosen.shape[0] != scores.shape[1]:
            raise ValueError(
                f"chosen must be ({scores.shape[1]}, K) for scores of {tuple(scores.shape)}, "
                f"got {tuple(chosen.shape)}"
            )
        index = chosen[None, :, :, None].expand(scores.shape[0], -1, -1, scores.shape[3])
        scores = scores.gather(2, index)
    return mean_over_blocks(scores.softmax(dim=2))


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


def mean_over_blocks(maps: Tensor) -> Tensor:
    """(M, B, C, S) -> (B, C, S)."""
    return maps.mean(dim=0)


def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)
