"""Concept tokens beside a double-stream block of FLUX.1: they look, and nobody looks at them.

Concept attention (Helbling et al. 2025, arXiv:2502.04320, section 3): each concept is a token on
the block's text path, with a modulation of its own, at position 0:

    concepts:  attention(-> concepts, image)
    score:     <concept's attention output, image token's attention output>

both outputs after the output projection and before the gate. Image, text and graph never attend to
a concept, so they are what they are without any.

Shapes: B batch, N concepts, S image tokens, D inner width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgflux.bases.base import ConceptTokens, GraphTokens, State
from sgflux.bases.flux1.graph_block import (
    ImageAttention,
    Modulation,
    attend,
    context_update,
    heads,
    joint_block,
)


def concept_block(
    block: Any, state: State, graph: GraphTokens | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """A double block, with a graph or without, and the state's concepts beside it.

    Returns:
        Text stream, image stream, graph tokens or None, concept tokens, and their raw scores
        (B, N, S) float32.
    """
    assert state.concepts is not None, "concepts look on"
    text, image, graph_states, attention = joint_block(block, state, graph)
    concept_states, scores = _look(block, state.concepts, attention)
    return text, image, graph_states, concept_states, scores


def _look(block: Any, concepts: ConceptTokens, image: ImageAttention) -> tuple[Tensor, Tensor]:
    """Concept tokens after the block, (B, N, D), and their raw scores, (B, N, S) float32."""
    attn = block.attn
    normed, *context = block.norm1_context(concepts.states, emb=concepts.temb)
    # At position 0 rotation changes nothing.
    query = attn.norm_added_q(heads(attn, attn.add_q_proj(normed))).to(image.key.dtype)
    key = attn.norm_added_k(heads(attn, attn.add_k_proj(normed))).to(image.key.dtype)
    value = heads(attn, attn.add_v_proj(normed))
    attended = attend(
        query, torch.cat([key, image.key], dim=1), torch.cat([value, image.value], dim=1)
    )
    output = attn.to_add_out(attended)
    with torch.autocast(output.device.type, enabled=False):
        # A sum over thousands of products: in bf16 neighbouring scores would be equal.
        scores = output.float() @ image.output.float().transpose(1, 2)
    return context_update(block, concepts.states, output, Modulation(*context)), scores
