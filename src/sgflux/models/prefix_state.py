"""The network's state before the first chosen block: what all graphs, and the base, share.

Shapes: B batch, S image tokens; N concepts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sgflux.bases.base import State


@dataclass(frozen=True, eq=False)
class PrefixState:
    """The network's state where the first chosen block begins: no graph or LoRA has touched it.

    Attributes:
        state: Streams, modulation and positions, and concepts if there are any.
        concept_scores: Raw scores of the concepts in each block so far, (B, N, S) float32 each.
    """

    state: State
    concept_scores: tuple[Tensor, ...] = ()

    def repeat(self, n: int) -> PrefixState:
        """``n`` copies, one after the other: row b is also row b + B, b + 2B ..."""

        def repeated(tensor: Tensor) -> Tensor:
            return tensor.repeat(n, *(1 for _ in tensor.shape[1:]))

        return PrefixState(
            self.state.each(repeated), tuple(repeated(scores) for scores in self.concept_scores)
        )
