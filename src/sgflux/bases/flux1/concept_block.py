"""Concept tokens beside a double-stream block of FLUX: they look, and nobody looks at them.

Concept attention (Helbling et al. 2025, arXiv:2502.04320, section 3): each concept is a token on
the block's text path, with a modulation of its own, at position 0:

    concepts:  attention(-> concepts, image)
    score:     <concept's attention output, image token's attention output>

both outputs after the output projection and before the gate. Image, text and graph never attend to
a concept, so they are what they are without any.

Shapes: B batch, C concepts, S image tokens, D inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.flux1.graph_block import (
    ContextModulation,
    GraphSide,
    ImageAttention,
    Rotary,
    attend,
    context_update,
    graph_block,
    heads,
    joint_block,
)


@dataclass(frozen=True, eq=False)
class ConceptTokens:
    """Concept tokens on their way through the blocks.

    Attributes:
        states: (B, C, D).
        temb: embedding of timestep and the concepts' own pooled vector, (B, D).
    """

    states: Tensor
    temb: Tensor


def concept_block(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: Rotary,
    graph: GraphSide | None,
    concept_states: Tensor,
    concept_temb: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """A double block, with a graph or without, and the concepts beside it.

    Args:
        block: a ``FluxTransformerBlock``.
        hidden_states, encoder_hidden_states, temb, image_rotary_emb, graph: see
            :func:`sgflux.bases.flux1.graph_block.joint_block`.
        concept_states: (B, C, D).
        concept_temb: (B, D).

    Returns:
        Text stream, image stream, graph tokens or None, concept tokens, and their raw scores
        (B, C, S) float32.
    """
    text, image, graph_states, attention = joint_block(
        block, hidden_states, encoder_hidden_states, temb, image_rotary_emb, graph
    )
    concept_states, scores = _look(block, concept_states, concept_temb, attention)
    return text, image, graph_states, concept_states, scores


def _look(block: Any, states: Tensor, temb: Tensor, image: ImageAttention) -> tuple[Tensor, Tensor]:
    """Concept tokens after the block, (B, C, D), and their raw scores, (B, C, S) float32."""
    attn = block.attn
    normed, *context = block.norm1_context(states, emb=temb)
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
    return context_update(block, states, output, ContextModulation(*context)), scores


class BlockRunner:
    """Runs double blocks one after the other, with a graph and with concepts or without.

    Attributes:
        concepts: where the concepts have got to.
        scores: of the blocks so far, each (B, C, S) float32.
    """

    def __init__(
        self,
        concepts: ConceptTokens | None,
        scores: Sequence[Tensor] = (),
        *,
        last: int | None = None,
        with_concepts: Callable[..., Any] = concept_block,
    ) -> None:
        """Start where the concepts are.

        Args:
            concepts: concept tokens, or None.
            scores: of the blocks that they have been through, each (B, C, S).
            last: the last double block that they look at; None: all.
            with_concepts: :func:`concept_block`, compiled or not.
        """
        self.concepts = concepts
        self.scores = list(scores)
        self._with_concepts = with_concepts
        self._last = last

    def through(
        self,
        run: Callable[..., Any],
        block: Any,
        image: Tensor,
        text: Tensor,
        temb: Tensor,
        rotary: Rotary,
        graph: GraphSide | None = None,
        *,
        with_graph: Callable[..., Any] = graph_block,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Text stream, image stream and graph tokens (or None) after one more block.

        Args:
            run: calls a function with its arguments; may recompute it in the backward pass.
            block, image, text, temb, rotary, graph: see :func:`concept_block`.
            with_graph: :func:`sgflux.bases.flux1.graph_block.graph_block`, compiled or not.
        """
        is_watched = self._last is None or len(self.scores) <= self._last
        if self.concepts is not None and is_watched:
            text, image, states, concept_states, scores = run(
                self._with_concepts,
                block,
                image,
                text,
                temb,
                rotary,
                graph,
                self.concepts.states,
                self.concepts.temb,
            )
            self.concepts = ConceptTokens(concept_states, self.concepts.temb)
            self.scores.append(scores)
            return text, image, states
        if graph is None:
            text, image = run(block, image, text, temb, rotary)
            return text, image, None
        return run(
            with_graph,
            block,
            image,
            text,
            graph.states,
            graph.mask,
            temb,
            rotary,
            graph.gate_image,
            graph.gate_text,
            graph.is_last,
        )
