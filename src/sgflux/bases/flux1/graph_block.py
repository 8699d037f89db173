"""One double-stream block of FLUX.1 with graph tokens beside its two streams.

An explicit forward over the parts of diffusers' ``FluxTransformerBlock``. The graph tokens take the
block's own text path, at position 0 or at places of the picture; image and text look at them in an
attention of its own:

    image, text: attention(-> text, image) + gate * attention(-> graph)
    graph:       attention(-> graph, text, image)

("decoupled" as in Ye et al. 2023, arXiv:2308.06721, Eq. 5, but with the base's own projections), so
that a gate of zero is the base's block exactly. A graph has few tokens, so this attention is two
plain matrix products: see :func:`told_by_graph`.

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

from sgflux.bases.base import GraphTokens, Rotary, State
from sgflux.errors import SgfluxError


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """What concepts may ask of a block's image stream.

    Attributes:
        key: Rotated keys, (B, S, H, C).
        value: Values, (B, S, H, C).
        output: Attention after the output projection and before the gate, (B, S, D).
    """

    key: Tensor
    value: Tensor
    output: Tensor


@dataclass(frozen=True, eq=False)
class Modulation:
    """A stream's AdaLN beyond its first norm, (B, D) each: see ``AdaLayerNormZero``."""

    gate_attention: Tensor
    shift: Tensor
    scale: Tensor
    gate: Tensor


def graph_block(
    block: Any, state: State, graph: GraphTokens
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A ``FluxTransformerBlock`` with graph tokens beside its two streams.

    Returns:
        Text stream, image stream and graph tokens, which are None after the last block.
    """
    return joint_block(block, state, graph)[:3]


def joint_block(
    block: Any, state: State, graph: GraphTokens | None
) -> tuple[Tensor, Tensor, Tensor | None, ImageAttention]:
    """A ``FluxTransformerBlock`` in the open, with a graph or without.

    What concerns image and text alone is computed by diffusers' functions in diffusers' order, so
    that zero gates, and no graph, give its very bits.

    Returns:
        As :func:`graph_block`, without a graph None for its tokens, and the image's attention.
    """
    attn, length = block.attn, state.encoder_hidden_states.shape[1]
    norm_image, *of_image = block.norm1(state.hidden_states, emb=state.temb)
    shift, scale, *of_text = modulations(block.norm1_context, state.temb)
    norm_text = block.norm1_context.norm(state.encoder_hidden_states) * scale + shift
    modulation = Modulation(*of_text)

    # The base's own attention, text before image.
    query, key, value = joint_projections(attn, norm_text, norm_image, state.image_rotary_emb)
    attended = base_attention(attn, query, key, value)
    text, image = attended.split([length, attended.shape[1] - length], dim=1)

    # Image and text look at the graph. At position 0 rotation would change nothing.
    if graph is not None:
        norm_graph = block.norm1_context.norm(graph.states) * scale + shift
        graph_key = attn.norm_added_k(heads(attn, attn.add_k_proj(norm_graph))).to(key.dtype)
        if graph.rotary is not None:
            graph_key = rotated(graph_key, graph.rotary)
        graph_value = heads(attn, attn.add_v_proj(norm_graph))
        text, image = told_by_graph(text, image, query, graph_key, graph_value, graph)

    # Output projections, residual updates and feed-forward.
    image = attn.to_out[1](attn.to_out[0](image.contiguous()))
    text = attn.to_add_out(text.contiguous())
    seen = ImageAttention(key[:, length:], value[:, length:], image)
    image = _update(block.norm2, block.ff, state.hidden_states, image, Modulation(*of_image))
    text = context_update(block, state.encoder_hidden_states, text, modulation)
    if graph is None or graph.is_last:
        return text, image, None, seen

    # The graph tokens look at themselves, the text and the image, and move on.
    graph_query = attn.norm_added_q(heads(attn, attn.add_q_proj(norm_graph))).to(query.dtype)
    if graph.rotary is not None:
        graph_query = rotated(graph_query, graph.rotary)
    attended = attend(
        graph_query,
        torch.cat([graph_key, key], dim=1),
        torch.cat([graph_value, value], dim=1),
        mask=F.pad(graph.mask, (0, key.shape[1]), value=True),
    )
    states = context_update(block, graph.states, attn.to_add_out(attended), modulation)
    return text, image, states, seen


def modulations(norm: Any, temb: Tensor) -> tuple[Tensor, ...]:
    """What an ``AdaLayerNormZero`` makes of the timestep embedding, once for text and graph.

    Returns:
        Shift and 1 + scale of its own norm, (B, 1, D); then what :class:`Modulation` holds.
    """
    shift, scale, *further = norm.linear(norm.silu(temb)).chunk(6, dim=1)
    gate_attention, shift_mlp, scale_mlp, gate = further
    return shift[:, None], 1 + scale[:, None], gate_attention, shift_mlp, scale_mlp, gate


def joint_projections(
    attn: Any, text: Tensor, image: Tensor, rotary: Rotary
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of text and image, (B, L + S, H, C); the first two are rotated.

    Args:
        attn: Attention of the block.
        text: Normed text stream, (B, L, D).
        image: Normed image stream, (B, S, D).
        rotary: Positions of all tokens.
    """
    query = attn.norm_q(heads(attn, attn.to_q(image)))
    key = attn.norm_k(heads(attn, attn.to_k(image)))
    value = heads(attn, attn.to_v(image))
    text_query = attn.norm_added_q(heads(attn, attn.add_q_proj(text)))
    text_key = attn.norm_added_k(heads(attn, attn.add_k_proj(text)))
    text_value = heads(attn, attn.add_v_proj(text))
    query = apply_rotary_emb(torch.cat([text_query, query], dim=1), rotary, sequence_dim=1)
    key = apply_rotary_emb(torch.cat([text_key, key], dim=1), rotary, sequence_dim=1)
    return query, key, torch.cat([text_value, value], dim=1)


def base_attention(attn: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (B, n, H, C) as ``FluxAttnProcessor`` computes it, (B, n, D)."""
    attended = dispatch_attention_fn(
        query,
        key,
        value,
        backend=attn.processor._attention_backend,
        parallel_config=attn.processor._parallel_config,
    )
    return attended.flatten(2, 3).to(query.dtype)


def told_by_graph(
    text: Tensor, image: Tensor, query: Tensor, key: Tensor, value: Tensor, graph: GraphTokens
) -> tuple[Tensor, Tensor]:
    """Text and image after gate * attention(-> graph) is added to them; a zero gate adds zero.

    The gate of a channel multiplies the G values of the graph instead of the L + S results. Keys
    and values stand as block-diagonal matrices, a block a head, so that all heads are one matrix
    product and nothing is transposed.

    Args:
        text: Attention of the text in the base, (B, L, D).
        image: Attention of the image in the base, (B, S, D).
        query: Rotated queries of text and image, (B, L + S, H, C).
        key: Keys of the graph tokens, (B, G, H, C).
        value: Values of the graph tokens, (B, G, H, C).
        graph: Mask, gates and bias of the graph.
    """
    (batch, tokens, count, width), dtype = key.shape, text.dtype
    lengths = [text.shape[1], image.shape[1]]
    bias = torch.zeros_like(graph.mask, dtype=dtype).masked_fill(~graph.mask, -torch.inf)
    scores = torch.baddbmm(
        bias.expand(batch, count, 1, tokens).reshape(batch, -1, 1),
        block_diagonal(key * width**-0.5),
        query.flatten(2).mT,
    )
    # (B, H, G, L + S): a softmax over G with many neighbours is faster than many over G numbers.
    scores = scores.unflatten(1, (count, tokens))
    if graph.bias is not None:
        scores = scores + graph.bias[:, None]
    weights = scores.softmax(dim=2, dtype=torch.float32)
    of_text, of_image = weights.to(dtype).flatten(1, 2).mT.split(lengths, dim=1)

    def gated(gate: Tensor) -> Tensor:
        return block_diagonal((gate.to(dtype).unflatten(-1, (count, width)) * value).to(dtype))

    return (
        torch.baddbmm(text, of_text, gated(graph.gate_text)),
        torch.baddbmm(image, of_image, gated(graph.gate_image)),
    )


def block_diagonal(tensor: Tensor) -> Tensor:
    """(B, G, H, C) as (B, H * G, D), zero but for each head's rows in its own C columns."""
    count = tensor.shape[2]
    eye = torch.eye(count, dtype=tensor.dtype, device=tensor.device)
    spread = tensor.transpose(1, 2)[:, :, :, None] * eye[:, None, :, None]
    return spread.flatten(1, 2).flatten(2)


def context_update(block: Any, states: Tensor, attention: Tensor, modulation: Modulation) -> Tensor:
    """Gated residual and feed-forward of tokens on a block's text path, (B, n, D).

    Args:
        block: The block.
        states: Tokens before it, (B, n, D).
        attention: Result of their attention, after the output projection, (B, n, D).
        modulation: Modulation of these tokens.
    """
    states = _update(block.norm2_context, block.ff_context, states, attention, modulation)
    return states.clip(-65504, 65504) if states.dtype == torch.float16 else states


def _update(
    norm: Any, feed_forward: Any, states: Tensor, attention: Tensor, modulation: Modulation
) -> Tensor:
    states = states + modulation.gate_attention.unsqueeze(1) * attention
    normed = norm(states) * (1 + modulation.scale[:, None]) + modulation.shift[:, None]
    return states + modulation.gate.unsqueeze(1) * feed_forward(normed)


def rotated(states: Tensor, rotary: Rotary) -> Tensor:
    """(B, n, H, C) turned to positions of its own for each example, (B, n, C) each.

    diffusers' ``apply_rotary_emb``, whose positions are the same for all examples.
    """
    cosines, sines = (part[:, :, None] for part in rotary)
    real, imaginary = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return (states.float() * cosines + turned * sines).to(states.dtype)


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
