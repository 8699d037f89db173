"""What the rest of the package knows of a base's network: a few records and small protocols.

All else that holds for one kind of base models is in :mod:`sgflux.bases.family`.

Shapes: B batch, S image tokens, L text tokens, G graph tokens, N concepts, D inner width, C head
width; D_text features of a text token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Text = Mapping[str, Tensor]
"""Features of B prompts: the family's own names -> (B, ...). The cache stores them by name."""

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of all positions, text before image, (L + S, C) each."""


# --- what flows through the network -------------------------------------------------------------
# Named tuples: torch.compile and recomputation take them apart and put them together by themselves.


class ConceptTokens(NamedTuple):
    """Concept tokens on their way through the blocks.

    Attributes:
        states: Tokens, (B, N, D).
        temb: Embedding of the timestep and the concepts' own text, (B, D).
    """

    states: Tensor
    temb: Tensor


class State(NamedTuple):
    """The network's state between two blocks.

    Attributes:
        hidden_states: Image stream, (B, S, D).
        encoder_hidden_states: Text stream, (B, L, D).
        temb: Embedding of the timestep and whatever else modulates a block, (B, D).
        image_rotary_emb: Positions of all tokens.
        concepts: Concept tokens that look on; None without any.
        last_position: Position of the last image token in the family's own ids, from which
            :meth:`Network.rotary_at`, :meth:`Network.coverage` and :meth:`Network.image_places`
            know the grid; None in a family without positions.
    """

    hidden_states: Tensor
    encoder_hidden_states: Tensor
    temb: Tensor
    image_rotary_emb: Rotary
    concepts: ConceptTokens | None = None
    last_position: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> State:
        """The state with a function applied to every tensor that has a row for each example."""
        concepts = self.concepts
        return self._replace(
            hidden_states=function(self.hidden_states),
            encoder_hidden_states=function(self.encoder_hidden_states),
            temb=function(self.temb),
            concepts=None
            if concepts is None
            else ConceptTokens(function(concepts.states), function(concepts.temb)),
        )


class GraphTokens(NamedTuple):
    """What a graph brings to a block.

    Attributes:
        states: Graph tokens, (B, G, D).
        mask: True at the tokens that may be attended to, (B, 1, 1, G) bool.
        gate_image: Weight of the graph in the image stream, (B, 1, D) float32.
        gate_text: Weight of the graph in the text stream, (B, 1, D) float32.
        is_last: Whether the tokens end here, so that their own update can be left out.
        rotary: Cosines and sines of the tokens' positions, (B, G, C) each; None: all tokens are at
            the position of the text.
        bias: Added to the scores of the attention of text and image to the graph tokens,
            (B, G, L + S) float32 in the order of the blocks; None: nothing is.
    """

    states: Tensor
    mask: Tensor
    gate_image: Tensor
    gate_text: Tensor
    is_last: bool
    rotary: Rotary | None = None
    bias: Tensor | None = None


# --- the network --------------------------------------------------------------------------------


class Block(Protocol):
    """One block of the network."""

    @property
    def module(self) -> nn.Module:
        """The library's own block."""

    def plain(self, state: State, call: Callable[..., Any]) -> State:
        """The state after the block, which ``call`` calls: the module, or what fetches it first."""

    def with_graph(self, state: State, graph: GraphTokens) -> tuple[State, Tensor | None]:
        """The state after the block and the graph tokens, (B, G, D); None after the last block.

        With gates of zero the state has the bits of :meth:`plain`.
        """

    def with_concepts(
        self, state: State, graph: GraphTokens | None
    ) -> tuple[State, Tensor | None, Tensor]:
        """As :meth:`with_graph`, and the concepts' raw scores, (B, N, S) float32.

        The other streams are what they are without concepts.
        """


class Network(Protocol):
    """A family's transformer, block by block.

    ``Inputs`` is the family's own record of what its transformer is called with.
    """

    @property
    def transformer(self) -> Any:
        """The library's own model, with or without LoRA in it."""

    @property
    def blocks(self) -> Sequence[Block]:
        """All blocks in their order."""

    @property
    def num_layers(self) -> int:
        """Number of the first blocks that can take a graph and concepts."""

    @property
    def inner_dim(self) -> int:
        """D."""

    @property
    def channels(self) -> int:
        """Channels of the latents, c."""

    @property
    def is_guided(self) -> bool:
        """Whether the network is guidance-distilled, and so reads a guidance scale."""

    @property
    def device(self) -> torch.device:
        """Device of the first layer."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""

    def pack(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) as the network's tokens, (B, S, c')."""

    def unpack(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B, S, c') as latents (B, c, height, width)."""

    @property
    def patch(self) -> int:
        """Latent pixels a side of an image token."""

    def grid(self, latents: Tensor) -> tuple[int, int]:
        """Rows and columns of the tokens of latents (B, c, h, w)."""

    def inputs(
        self, latents: Tensor, text: Text, sigma: Tensor, *, guidance: float | None = None
    ) -> Any:
        """What the network is called with.

        Args:
            latents: Noisy latents, (B, c, h, w).
            text: Features of B prompts.
            sigma: Noise levels in [0, 1], (B,) float32.
            guidance: Guidance scale of a guided network, and only of it.
        """

    def embed(
        self, inputs: Any, *, concepts: Tensor | None = None, concept_text: Text | None = None
    ) -> State:
        """The state before the first block.

        Args:
            inputs: Result of :meth:`inputs`.
            concepts: Features of N concepts, one token each, (B, N, D_text); None without any.
            concept_text: Features of the B texts that modulate the concepts.
        """

    def embed_words(self, features: Tensor) -> Tensor:
        """Text features (..., D_text) as the text stream begins, (..., D)."""

    def rotary_at(self, state: State, centers: Tensor, placed: Tensor) -> Rotary:
        """Positions of tokens that belong to places of the picture, (B, G, C) each.

        Args:
            state: State of :meth:`embed`.
            centers: Centers (x, y) in shares of the picture's sides, (B, G, 2).
            placed: True at tokens that have a place, (B, G) bool; the others are where a token of
                the text is.

        Raises:
            SgfluxError: if the family has no positions.
        """

    def coverage(self, state: State, boxes: Tensor) -> Tensor:
        """Which share of each token's place lies in each box, (B, G, L + S) float32.

        Text and image tokens stand in the order of the blocks' attention. A text token has no
        place, and its share is 1.

        Args:
            state: State of :meth:`embed`.
            boxes: Boxes (center x, center y, width, height) in shares of the picture's sides,
                (B, G, 4).

        Raises:
            SgfluxError: if the family has no positions.
        """

    def image_places(self, state: State) -> Tensor:
        """Centers (x, y) of the image tokens in shares of the picture's sides, (S, 2) float32.

        Args:
            state: State of :meth:`embed`.

        Raises:
            SgfluxError: if the family has no positions.
        """

    def velocity(self, state: State) -> Tensor:
        """The predicted velocity after the last block, (B, S, c')."""

    def rounded(self, inputs: Any) -> Any:
        """Inputs for :meth:`embed` with numbers as precise as the library's own pass has them."""

    def plain(self, inputs: Any) -> Tensor:
        """The velocity (B, S, c') as the library's own forward pass computes it."""

    def check_block(self, index: int) -> None:
        """Check that a block can take a graph and concepts as it is.

        Raises:
            SgfluxError: if it was changed in a way that the block's other forms would bypass.
        """

    def compile(self, **options: Any) -> None:
        """Compile all blocks in all their forms, with options of :func:`torch.compile`."""
