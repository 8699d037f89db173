"""One double-stream block of FLUX with graph tokens beside its two streams.

An explicit forward over the parts of diffusers' ``FluxTransformerBlock``. The graph tokens ride the
block's own text path, at position 0; image and text look at them in an attention of its own:

    image, text: attention(-> text, image) + gate * attention(-> graph)
    graph:       attention(-> graph, text, image)

("decoupled" as in Ye et al. 2023, arXiv:2308.06721, Eq. 5, but with the base's own projections), so
that a gate of zero is the base's block exactly.

Shapes: B batch, S image tokens, L text tokens, G graph tokens, D inner width, H heads, C head
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor
from torch.nn import functional as F

from sgflux.errors import SgfluxError

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class GraphSide:
    """What a graph brings to a block.

    Attributes:
        states: graph tokens, (B, G, D).
        mask: which of them may be attended to, (B, 1, 1, G) bool.
        gate_image: weight of the graph in the image stream, (B, 1, D) float32.
        gate_text: weight of the graph in the text stream, (B, 1, D) float32.
        is_last: whether the tokens end here, so that their own update can be left out.
    """

    states: Tensor
    mask: Tensor
    gate_image: Tensor
    gate_text: Tensor
    is_last: bool


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """What other tokens may ask of a block's image stream.

    Attributes:
        key: rotated, (B, S, H, C).
        value: (B, S, H, C).
        output: after the output projection and before the gate, (B, S, D).
    """

    key: Tensor
    value: Tensor
    output: Tensor


@dataclass(frozen=True, eq=False)
class ContextModulation:
    """A text-path block's AdaLN beyond the first norm, each (B, D): see ``AdaLayerNormZero``."""

    gate_attention: Tensor
    shift: Tensor
    scale: Tensor
    gate: Tensor


def graph_block(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    graph_states: Tensor,
    graph_mask: Tensor,
    temb: Tensor,
    image_rotary_emb: Rotary,
    gate_image: Tensor,
    gate_text: Tensor,
    is_last: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A ``FluxTransformerBlock`` with graph tokens beside its two streams.

    Args:
        block: the block.
        hidden_states: image stream, (B, S, D).
        encoder_hidden_states: text stream, (B, L, D).
        graph_states, graph_mask, gate_image, gate_text, is_last: see :class:`GraphSide`.
        temb: (B, D).
        image_rotary_emb: two of (L + S, C).

    Returns:
        Text stream, image stream and graph tokens (None after the last block).
    """
    graph = GraphSide(graph_states, graph_mask, gate_image, gate_text, is_last)
    return joint_block(block, hidden_states, encoder_hidden_states, temb, image_rotary_emb, graph)[
        :3
    ]


def joint_block(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: Rotary,
    graph: GraphSide | None,
) -> tuple[Tensor, Tensor, Tensor | None, ImageAttention]:
    """A ``FluxTransformerBlock`` in the open, with a graph or without.

    What concerns image and text alone is computed by diffusers' functions in diffusers' order, so
    that zero gates, and no graph, give its very bits.

    Args:
        block: the block.
        hidden_states: image stream, (B, S, D).
        encoder_hidden_states: text stream, (B, L, D).
        temb: (B, D).
        image_rotary_emb: two of (L + S, C).
        graph: what a graph brings along, if there is one.

    Returns:
        Text stream, image stream, graph tokens (None after the last block and without a graph),
        and the image's attention.
    """
    attn = block.attn
    norm_image, gate_msa, shift_mlp, scale_mlp, gate_mlp = block.norm1(hidden_states, emb=temb)
    norm_text, *context = block.norm1_context(encoder_hidden_states, emb=temb)
    modulation = ContextModulation(*context)

    # Queries, keys and values, (B, tokens, H, C).
    query = attn.norm_q(heads(attn, attn.to_q(norm_image)))
    key = attn.norm_k(heads(attn, attn.to_k(norm_image)))
    value = heads(attn, attn.to_v(norm_image))
    text_query = attn.norm_added_q(heads(attn, attn.add_q_proj(norm_text)))
    text_key = attn.norm_added_k(heads(attn, attn.add_k_proj(norm_text)))
    text_value = heads(attn, attn.add_v_proj(norm_text))
    query = apply_rotary_emb(
        torch.cat([text_query, query], dim=1), image_rotary_emb, sequence_dim=1
    )
    key = apply_rotary_emb(torch.cat([text_key, key], dim=1), image_rotary_emb, sequence_dim=1)
    value = torch.cat([text_value, value], dim=1)

    # The base's own attention, and what the graph says to the same queries.
    processor = attn.processor
    attended = dispatch_attention_fn(
        query,
        key,
        value,
        backend=processor._attention_backend,
        parallel_config=processor._parallel_config,
    )
    attended = attended.flatten(2, 3).to(query.dtype)
    length = encoder_hidden_states.shape[1]
    text_attended, image_attended = attended[:, :length], attended[:, length:]
    if graph is not None:
        norm_graph = block.norm1_context(graph.states, emb=temb)[0]
        # At position 0 rotation changes nothing, as for the text.
        graph_key = attn.norm_added_k(heads(attn, attn.add_k_proj(norm_graph))).to(key.dtype)
        graph_value = heads(attn, attn.add_v_proj(norm_graph))
        told = attend(query, graph_key, graph_value, mask=graph.mask).to(attended.dtype)
        text_attended = text_attended + graph.gate_text.to(told.dtype) * told[:, :length]
        image_attended = image_attended + graph.gate_image.to(told.dtype) * told[:, length:]
    image_attended = attn.to_out[1](attn.to_out[0](image_attended.contiguous()))
    text_attended = attn.to_add_out(text_attended.contiguous())
    image = ImageAttention(key[:, length:], value[:, length:], image_attended)

    # Residual updates, modulated by the timestep.
    hidden_states = hidden_states + gate_msa.unsqueeze(1) * image_attended
    norm_image = block.norm2(hidden_states)
    norm_image = norm_image * (1 + scale_mlp[:, None]) + shift_mlp[:, None]
    hidden_states = hidden_states + gate_mlp.unsqueeze(1) * block.ff(norm_image)
    encoder_hidden_states = context_update(block, encoder_hidden_states, text_attended, modulation)
    if graph is None or graph.is_last:
        return encoder_hidden_states, hidden_states, None, image

    # The graph tokens look at themselves, the text and the image, and move on.
    graph_query = attn.norm_added_q(heads(attn, attn.add_q_proj(norm_graph))).to(query.dtype)
    graph_attended = attend(
        graph_query,
        torch.cat([graph_key, key], dim=1),
        torch.cat([graph_value, value], dim=1),
        mask=F.pad(graph.mask, (0, key.shape[1]), value=True),
    )
    graph_states = context_update(block, graph.states, attn.to_add_out(graph_attended), modulation)
    return encoder_hidden_states, hidden_states, graph_states, image


def context_update(
    block: Any, states: Tensor, attention: Tensor, modulation: ContextModulation
) -> Tensor:
    """Gated residual and feed-forward of tokens on a block's text path, (B, n, D).

    Args:
        block: the block.
        states: before it, (B, n, D).
        attention: what they attended to, after the output projection, (B, n, D).
        modulation: of these tokens.
    """
    states = states + modulation.gate_attention.unsqueeze(1) * attention
    normed = block.norm2_context(states)
    normed = normed * (1 + modulation.scale[:, None]) + modulation.shift[:, None]
    states = states + modulation.gate.unsqueeze(1) * block.ff_context(normed)
    return states.clip(-65504, 65504) if states.dtype == torch.float16 else states


def heads(attn: Any, states: Tensor) -> Tensor:
    """(B, n, D) as (B, n, H, C)."""
    return states.unflatten(-1, (-1, attn.head_dim))


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Attention of (B, n, H, C) queries over (B, m, H, C) keys under (B, 1, 1, m), (B, n, D)."""
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2, 3)


def check_plain_attention(attn: Any, index: int) -> None:
    """Check that double block ``index`` computes what :func:`graph_block` computes in its place.

    Raises:
        SgfluxError: if its projections are fused, or its attention processor is another.
    """
    if attn.fused_projections:
        raise SgfluxError(
            f"double block {index} has fused projections; call transformer.unfuse_qkv_projections()"
        )
    if type(attn.processor) is not FluxAttnProcessor:
        raise SgfluxError(
            f"double block {index} has the attention processor {type(attn.processor).__name__}, "
            "which the graph would bypass; set FluxAttnProcessor there"
        )
