"""The network's state between the blocks that know no graph and those that do.

Shapes: B batch, S image tokens, L text tokens, D inner width, C head width; N concepts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sgflux.bases.flux1.concept_block import ConceptTokens
from sgflux.bases.flux1.graph_block import Rotary


@dataclass(frozen=True, eq=False)
class PrefixState:
    """The network's state where the first chosen block begins: no graph or LoRA has touched it.

    Attributes:
        hidden_states: image stream, (B, S, D).
        encoder_hidden_states: text stream, (B, L, D).
        temb: embedding of timestep, pooled text (and guidance), (B, D).
        image_rotary_emb: cosines and sines of all positions, two of (L + S, C).
        concepts: concept tokens that look on, if there are any.
        concept_scores: Scores of the blocks so far, each (B, N, S) float32.
    """

    hidden_states: Tensor
    encoder_hidden_states: Tensor
    temb: Tensor
    image_rotary_emb: Rotary
    concepts: ConceptTokens | None = None
    concept_scores: tuple[Tensor, ...] = ()

    def repeat(self, n: int) -> PrefixState:
        """``n`` copies, one after the other: row b is also row b + B, b + 2B ..."""
        return self._map(lambda tensor: tensor.repeat(n, *(1 for _ in tensor.shape[1:])))

    def select(self, rows: Tensor) -> PrefixState:
        """The rows of an index or boolean mask, in that order."""
        return self._map(lambda tensor: tensor[rows])

    def _map(self, function: Callable[[Tensor], Tensor]) -> PrefixState:
        return PrefixState(
            hidden_states=function(self.hidden_states),
            encoder_hidden_states=function(self.encoder_hidden_states),
            temb=function(self.temb),
            image_rotary_emb=self.image_rotary_emb,
            concepts=None
            if self.concepts is None
            else ConceptTokens(function(self.concepts.states), function(self.concepts.temb)),
            concept_scores=tuple(function(scores) for scores in self.concept_scores),
        )
