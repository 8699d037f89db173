"""FLUX.1's transformer, block by block: what it is called with, and what its blocks can do.

Shapes: B batch, S image tokens, L text tokens, D inner width, N concepts; D_t5 and D_clip the text
encoders' widths; latents (B, 16, h, w), packed (B, S, 64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.base import ConceptTokens, GraphTokens, Rotary, State, Text
from sgflux.bases.flux1.concept_block import concept_block
from sgflux.bases.flux1.graph_block import check_plain_attention, graph_block
from sgflux.bases.flux1.latents import (
    coverage,
    image_ids,
    pack_latents,
    place_ids,
    text_ids,
    token_places,
    unpack_latents,
)
from sgflux.bases.memory.compilation import allow_variants


@dataclass(frozen=True, eq=False)
class FluxInputs:
    """What FLUX.1's transformer is called with, under diffusers' names.

    Attributes:
        hidden_states: Packed noisy latents, (B, S, 64).
        encoder_hidden_states: T5 features, (B, L, D_t5).
        pooled_projections: CLIP features, (B, D_clip).
        timestep: Sigma in [0, 1], (B,) float32, also for a bf16 model.
        img_ids: Positions of the image tokens, (S, 3).
        txt_ids: Positions of the text tokens, (L, 3).
        guidance: Guidance scale of a guidance-distilled model, and only of it, (B,) float32.
    """

    hidden_states: Tensor
    encoder_hidden_states: Tensor
    pooled_projections: Tensor
    timestep: Tensor
    img_ids: Tensor
    txt_ids: Tensor
    guidance: Tensor | None = None


@dataclass(frozen=True)
class DoubleBlock:
    """A double-stream block: text and image have weights of their own.

    Attributes:
        module: diffusers' block.
        run_graph: :func:`~.graph_block.graph_block`, compiled or not.
        run_concepts: :func:`~.concept_block.concept_block`, compiled or not.
    """

    module: nn.Module
    run_graph: Callable[..., Any] = graph_block
    run_concepts: Callable[..., Any] = concept_block

    def plain(self, state: State, call: Callable[..., Any]) -> State:
        """See :class:`~sgflux.bases.base.Block`."""
        return _called(state, call)

    def with_graph(self, state: State, graph: GraphTokens) -> tuple[State, Tensor | None]:
        """See :class:`~sgflux.bases.base.Block`."""
        text, image, states = self.run_graph(self.module, state, graph)
        return state._replace(hidden_states=image, encoder_hidden_states=text), states

    def with_concepts(
        self, state: State, graph: GraphTokens | None
    ) -> tuple[State, Tensor | None, Tensor]:
        """See :class:`~sgflux.bases.base.Block`."""
        assert state.concepts is not None, "concepts look on"
        text, image, states, concepts, scores = self.run_concepts(self.module, state, graph)
        after = state._replace(
            hidden_states=image,
            encoder_hidden_states=text,
            concepts=ConceptTokens(concepts, state.concepts.temb),
        )
        return after, states, scores


@dataclass(frozen=True)
class SingleBlock:
    """A single-stream block, which takes neither a graph nor concepts."""

    module: nn.Module

    def plain(self, state: State, call: Callable[..., Any]) -> State:
        """See :class:`~sgflux.bases.base.Block`."""
        return _called(state, call)

    def with_graph(self, state: State, graph: GraphTokens) -> tuple[State, Tensor | None]:
        """Refuse: graph tokens are gone after the last double block."""
        raise NotImplementedError("a single block of FLUX.1 takes no graph")

    def with_concepts(
        self, state: State, graph: GraphTokens | None
    ) -> tuple[State, Tensor | None, Tensor]:
        """Refuse: concepts look at double blocks."""
        raise NotImplementedError("a single block of FLUX.1 takes no concepts")


def _called(state: State, call: Callable[..., Any]) -> State:
    text, image = call(
        state.hidden_states, state.encoder_hidden_states, state.temb, state.image_rotary_emb
    )
    return state._replace(hidden_states=image, encoder_hidden_states=text)


class FluxNetwork:
    """See :class:`~sgflux.bases.base.Network`; the transformer is used as it is.

    Attributes:
        transformer: diffusers' model, with or without LoRA in it.
        blocks: Double blocks, then single blocks.
        num_layers: Number of double blocks.
        inner_dim: D.
        channels: Channels of the latents.
        patch: Latent pixels a side of an image token.
        is_guided: Whether the model is guidance-distilled, as FLUX.1-dev is.
    """

    pack = staticmethod(pack_latents)
    unpack = staticmethod(unpack_latents)

    def __init__(self, transformer: FluxTransformer2DModel) -> None:
        """Look at the transformer's blocks."""
        self.transformer = transformer
        double = [DoubleBlock(block) for block in transformer.transformer_blocks]
        single = [SingleBlock(block) for block in transformer.single_transformer_blocks]
        self.blocks: tuple[DoubleBlock | SingleBlock, ...] = (*double, *single)
        self.num_layers = len(double)
        self.inner_dim: int = transformer.inner_dim
        self.channels: int = transformer.config.in_channels // 4
        self.patch = 2
        self.is_guided: bool = transformer.config.guidance_embeds
        self._ids: dict[tuple[int, int, int, torch.device], tuple[Tensor, Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Device of the first layer."""
        return self.transformer.x_embedder.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        return self.transformer.x_embedder.weight.dtype

    def grid(self, latents: Tensor) -> tuple[int, int]:
        """See :class:`~sgflux.bases.base.Network`."""
        return latents.shape[2] // 2, latents.shape[3] // 2

    def inputs(
        self, latents: Tensor, text: Text, sigma: Tensor, *, guidance: float | None = None
    ) -> FluxInputs:
        """See :class:`~sgflux.bases.base.Network`; the text is T5's ``hidden``, CLIP's ``pooled``.

        Raises:
            ValueError: if ``guidance`` does not fit the model.
        """
        rows, columns = self.grid(latents)
        key = (rows, columns, text["hidden"].shape[1], latents.device)
        if key not in self._ids:  # the same tensors for every batch of a size, drawn or trained on
            with torch.inference_mode(mode=False):
                self._ids[key] = (
                    image_ids(rows, columns).to(latents.device),
                    text_ids(key[2]).to(latents.device),
                )
        img_ids, txt_ids = self._ids[key]
        return FluxInputs(
            hidden_states=pack_latents(latents),
            encoder_hidden_states=text["hidden"],
            pooled_projections=text["pooled"],
            timestep=sigma,
            img_ids=img_ids,
            txt_ids=txt_ids,
            guidance=None
            if guidance is None
            else torch.full((len(sigma),), guidance, device=sigma.device),
        )

    def embed(
        self,
        inputs: FluxInputs,
        *,
        concepts: Tensor | None = None,
        concept_text: Text | None = None,
    ) -> State:
        """See :class:`~sgflux.bases.base.Network`.

        Raises:
            ValueError: if ``guidance`` does not fit the model, or only one of the two arguments
                about concepts is given.
        """
        if (concepts is None) != (concept_text is None):
            raise ValueError("concepts and concept_text belong together")
        base, dtype = self.transformer, self.dtype
        hidden_states = base.x_embedder(inputs.hidden_states.to(dtype))
        temb = self._time(inputs, inputs.pooled_projections)
        encoder_hidden_states = base.context_embedder(inputs.encoder_hidden_states.to(dtype))
        rotary = base.pos_embed(torch.cat((inputs.txt_ids, inputs.img_ids), dim=0))
        looking = None
        if concepts is not None and concept_text is not None:
            looking = ConceptTokens(
                base.context_embedder(concepts.to(dtype)),
                self._time(inputs, concept_text["pooled"]),
            )
        last = inputs.img_ids[-1]
        return State(hidden_states, encoder_hidden_states, temb, rotary, looking, last)

    def _time(self, inputs: FluxInputs, pooled: Tensor) -> Tensor:
        """The modulation of the timestep and a pooled text, (B, D).

        diffusers rounds the timestep to the hidden states' precision first; in bf16 that merges 730
        and 732, so here it keeps its own.
        """
        embed, pooled = self.transformer.time_text_embed, pooled.to(self.dtype)
        if self.is_guided:
            if inputs.guidance is None:
                raise ValueError("this model is guidance-distilled: it needs `guidance`")
            return embed(inputs.timestep * 1000, inputs.guidance * 1000, pooled)
        if inputs.guidance is not None:
            raise ValueError("`guidance` has no effect: this model is not guidance-distilled")
        return embed(inputs.timestep * 1000, pooled)

    def embed_words(self, features: Tensor) -> Tensor:
        """See :class:`~sgflux.bases.base.Network`."""
        embed = self.transformer.context_embedder
        return embed(features.to(embed.weight.dtype))

    def rotary_at(self, state: State, centers: Tensor, placed: Tensor) -> Rotary:
        """See :class:`~sgflux.bases.base.Network`."""
        assert state.last_position is not None, "FLUX.1 has positions"
        ids = place_ids(centers, placed, last=state.last_position)
        cosines, sines = self.transformer.pos_embed(ids.flatten(0, 1))
        return cosines.unflatten(0, placed.shape), sines.unflatten(0, placed.shape)

    def coverage(self, state: State, boxes: Tensor) -> Tensor:
        """See :class:`~sgflux.bases.base.Network`."""
        assert state.last_position is not None, "FLUX.1 has positions"
        share = coverage(boxes, tokens=state.hidden_states.shape[1], last=state.last_position)
        return F.pad(share, (state.encoder_hidden_states.shape[1], 0), value=1.0)

    def image_places(self, state: State) -> Tensor:
        """See :class:`~sgflux.bases.base.Network`."""
        assert state.last_position is not None, "FLUX.1 has positions"
        return token_places(state.hidden_states.shape[1], last=state.last_position)

    def velocity(self, state: State) -> Tensor:
        """See :class:`~sgflux.bases.base.Network`."""
        base = self.transformer
        return base.proj_out(base.norm_out(state.hidden_states, state.temb))

    def rounded(self, inputs: FluxInputs) -> FluxInputs:
        """See :class:`~sgflux.bases.base.Network`, and :meth:`_time`."""
        guidance = None if inputs.guidance is None else inputs.guidance.to(self.dtype)
        return replace(inputs, timestep=inputs.timestep.to(self.dtype), guidance=guidance)

    def plain(self, inputs: FluxInputs) -> Tensor:
        """See :class:`~sgflux.bases.base.Network`."""
        return self.transformer(**vars(inputs), return_dict=False)[0]

    def check_block(self, index: int) -> None:
        """See :func:`~.graph_block.check_plain_attention`."""
        check_plain_attention(self.transformer.transformer_blocks[index].attn, index)

    def compile(self, **options: Any) -> None:
        """Compile the transformer's repeated blocks and those with a graph or concepts in them.

        torch's limit of variants is raised, see
        :func:`~sgflux.bases.memory.compilation.allow_variants`.
        """
        allow_variants()
        self.transformer.compile_repeated_blocks(**options)
        with_graph = torch.compile(graph_block, **options)
        with_concepts = torch.compile(concept_block, **options)
        self.blocks = tuple(
            replace(block, run_graph=with_graph, run_concepts=with_concepts)
            if isinstance(block, DoubleBlock)
            else block
            for block in self.blocks
        )
