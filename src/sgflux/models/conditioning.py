"""ConditionedFlux: diffusers' FLUX with a scene graph in its middle double blocks.

An explicit forward over diffusers' own blocks. Before the chosen blocks and after them the blocks
are simply called. In ``token`` mode [global, local ...] join as tokens at the first chosen block,
go through the chosen ones (see :mod:`sgflux.bases.flux1.graph_block`) and are gone after the last.
In ``temb`` mode gate * project(global) is added to the chosen blocks' timestep embedding. Concept
tokens may look on (see :mod:`sgflux.bases.flux1.concept_block`), which changes nothing else.

Shapes: B batch, S image tokens, L text tokens, G = 1 + K graph tokens, D inner width, C head width,
M chosen blocks; N concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from sgflux.bases.flux1.concept_block import BlockRunner, ConceptTokens, concept_block
from sgflux.bases.flux1.graph_block import GraphSide, check_plain_attention, graph_block
from sgflux.bases.flux1.load import default_block_range, validate_block_range
from sgflux.bases.memory.compilation import allow_variants
from sgflux.bases.memory.offload import BlockOffload
from sgflux.bases.memory.recomputation import Recompute, Within
from sgflux.errors import SgfluxError
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.prefix_state import PrefixState
from sgflux.models.saliency import check_concept_blocks, embed_time

__all__ = ["ConditionedFlux", "GraphMode", "GraphTokens", "PrefixState"]

GraphMode = Literal["token", "temb"]


@dataclass(frozen=True, eq=False)
class GraphTokens:
    """Graph tokens on their way through the chosen blocks.

    Attributes:
        states: (B, G, D).
        mask: which tokens may be attended to, (B, 1, 1, G) bool. All of a null graph's are, so that
            no softmax is empty; ``present`` takes them out.
        present: 0 for a null graph, else 1, (B, 1, 1).
    """

    states: Tensor
    mask: Tensor
    present: Tensor


class ConditionedFlux(nn.Module):
    """FLUX's transformer, conditioned on graphs through a range of its double blocks.

    The transformer is used as it is: nothing is hooked, replaced or remembered on it. The module's
    own weights are float32 whatever the transformer is in.
    """

    def __init__(
        self,
        *,
        transformer: FluxTransformer2DModel,
        graph_local_dim: int,
        graph_global_dim: int,
        graph_mode: GraphMode = "token",
        tokens_per_triple: int = 3,
        block_start: int | None = None,
        block_end: int | None = None,
        gate_init: float = 0.0,
    ) -> None:
        """Put the untrained conditioner around a transformer.

        Args:
            transformer: diffusers' model, with or without LoRA in it.
            graph_local_dim: width of :attr:`GraphFeatures.local`.
            graph_global_dim: width of :attr:`GraphFeatures.global_`.
            graph_mode: ``token`` or ``temb``.
            tokens_per_triple: graph tokens made of each local row (in token mode). Three leave the
                roles apart: a word of the prompt finds its own subject or object among the keys.
            block_start: first chosen double block; both None: the middle third.
            block_end: one past the last.
            gate_init: what the gates start at; anything but 0 gives up the identity.

        Raises:
            SgfluxError: if the mode or the range is wrong, or a chosen block's attention is not
                FLUX's plain one (fused projections, another processor).
        """
        super().__init__()
        if graph_mode not in ("token", "temb"):
            raise SgfluxError(f"graph_mode must be 'token' or 'temb', got {graph_mode!r}")
        if tokens_per_triple < 1:
            raise SgfluxError(f"tokens_per_triple must be >= 1, got {tokens_per_triple}")
        num_layers = len(transformer.transformer_blocks)
        if block_start is None and block_end is None:
            block_start, block_end = default_block_range(num_layers)
        if block_start is None or block_end is None:
            raise SgfluxError("block_start and block_end belong together: give both or neither")
        validate_block_range(block_start, block_end, num_layers)
        for index in range(block_start, block_end):
            check_plain_attention(transformer.transformer_blocks[index].attn, index)
        self.transformer = transformer
        self.graph_mode = graph_mode
        self.tokens_per_triple = tokens_per_triple
        self.block_start, self.block_end = block_start, block_end
        self.graph_local_dim, self.graph_global_dim = graph_local_dim, graph_global_dim
        chosen, inner = block_end - block_start, transformer.inner_dim
        device = transformer.x_embedder.weight.device
        options: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self.graph_global_norm = nn.LayerNorm(graph_global_dim, **options)
        if graph_mode == "token":
            self.graph_local_norm = nn.LayerNorm(graph_local_dim, **options)
            self.graph_local_proj = nn.Linear(graph_local_dim, tokens_per_triple * inner, **options)
            self.graph_global_proj = nn.Linear(graph_global_dim, inner, **options)
            self.gate_image = nn.Parameter(torch.full((chosen, inner), gate_init, **options))
            self.gate_text = nn.Parameter(torch.full((chosen, inner), gate_init, **options))
        else:
            self.graph_global_to_temb = nn.Linear(graph_global_dim, inner, **options)
            self.gate_temb = nn.Parameter(torch.full((chosen, inner), gate_init, **options))
        self._graph_block: Callable[..., tuple[Tensor, Tensor, Tensor | None]] = graph_block
        self._concept_block: Callable[..., Any] = concept_block
        self._offload: BlockOffload | None = None

    def conditioner_parameters(self) -> dict[str, nn.Parameter]:
        """The module's own weights by name, without the transformer's."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("transformer.")
        }

    def compile_blocks(self, **options: Any) -> None:
        """Compile the transformer's repeated blocks and those with a graph or concepts in them.

        torch's limit of variants is raised, see
        :func:`~sgflux.bases.memory.compilation.allow_variants`.

        Args:
            options: of :func:`torch.compile`.
        """
        allow_variants()
        self.transformer.compile_repeated_blocks(**options)
        self._graph_block = torch.compile(graph_block, **options)
        self._concept_block = torch.compile(concept_block, **options)

    def offload_blocks(self, device: torch.device | str, *, folder: Path | None = None) -> None:
        """Keep all blocks but the chosen ones off the device until they run, all else on it.

        The chosen blocks are looked into rather than called, so their weights stay.

        Args:
            device: where everything runs.
            folder: see :class:`~sgflux.bases.memory.offload.BlockOffload`.

        Raises:
            SgfluxError: as there.
        """
        blocks = self.transformer.transformer_blocks
        away = [
            *blocks[: self.block_start],
            *blocks[self.block_end :],
            *self.transformer.single_transformer_blocks,
        ]
        self._offload = BlockOffload(away, device=device, folder=folder)
        self._offload.move_the_rest(self)

    def forward(
        self,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        timestep: Tensor,
        img_ids: Tensor,
        txt_ids: Tensor,
        guidance: Tensor | None = None,
        graph: GraphFeatures | None = None,
        gradient_checkpointing: bool | int = False,
    ) -> Tensor:
        """The velocity of packed latents.

        Args:
            hidden_states: packed noisy latents, (B, S, 64).
            encoder_hidden_states: T5 features, (B, L, D_t5).
            pooled_projections: CLIP features, (B, D_clip).
            timestep: sigma in [0, 1], (B,) float32. It is used in its own precision, so keep it
                float32 also for a bf16 model.
            img_ids: positions, (S, 3).
            txt_ids: positions, (L, 3).
            guidance: for a guidance-distilled model, and only for it, (B,) float32.
            graph: features of B graphs; None: no graph at all.
            gradient_checkpointing: keep only the blocks' inputs for the backward pass; a number
                n: of every n-th block.

        Returns:
            (B, S, 64).

        Raises:
            ValueError: on shapes that do not fit together.
        """
        prefix = self.prefix(
            hidden_states=hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=pooled_projections,
            timestep=timestep,
            img_ids=img_ids,
            txt_ids=txt_ids,
            guidance=guidance,
        )
        return self.suffix(prefix, graph, gradient_checkpointing=gradient_checkpointing)

    @torch.no_grad()
    def prefix(
        self,
        *,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        timestep: Tensor,
        img_ids: Tensor,
        txt_ids: Tensor,
        guidance: Tensor | None = None,
        concept_states: Tensor | None = None,
        concept_pooled_projections: Tensor | None = None,
    ) -> PrefixState:
        """Everything before the first chosen block, without gradient; see :meth:`forward`.

        Its result serves any number of graphs, with LoRA on or off. With concepts (both arguments,
        see :meth:`forward_with_concepts`) it also serves :meth:`suffix_with_concepts`.

        Raises:
            ValueError: if only one of the two arguments about concepts is given.
        """
        base = self.transformer
        dtype = base.x_embedder.weight.dtype
        hidden_states = base.x_embedder(hidden_states.to(dtype))
        temb = embed_time(base, timestep, guidance, pooled_projections.to(dtype))
        encoder_hidden_states = base.context_embedder(encoder_hidden_states.to(dtype))
        rotary = base.pos_embed(torch.cat((txt_ids, img_ids), dim=0))
        concepts = None
        if concept_states is not None and concept_pooled_projections is not None:
            for index, block in enumerate(base.transformer_blocks):
                check_plain_attention(block.attn, index)
            concepts = ConceptTokens(
                base.context_embedder(concept_states.to(dtype)),
                embed_time(base, timestep, guidance, concept_pooled_projections.to(dtype)),
            )
        elif concept_states is not None or concept_pooled_projections is not None:
            raise ValueError("concept_states and concept_pooled_projections belong together")
        if concepts is not None and self._offload is not None:
            raise ValueError("concepts look into blocks whose weights are offloaded")
        runner = BlockRunner(concepts, with_concepts=self._concept_block)
        for block in base.transformer_blocks[: self.block_start]:
            encoder_hidden_states, hidden_states, _ = runner.through(
                Recompute(0),
                self._called(block),
                hidden_states,
                encoder_hidden_states,
                temb,
                rotary,
            )
        return PrefixState(
            hidden_states,
            encoder_hidden_states,
            temb,
            rotary,
            runner.concepts,
            tuple(runner.scores),
        )

    def suffix(
        self,
        prefix: PrefixState,
        graph: GraphFeatures | None = None,
        *,
        gradient_checkpointing: bool | int = False,
        recompute_within: Within | None = None,
    ) -> Tensor:
        """The chosen blocks and all after them: the velocity, (B, S, 64).

        Args:
            prefix: of the same B examples; concepts in it are passed over.
            graph: features of B graphs; None: no graph at all.
            gradient_checkpointing: keep only the blocks' inputs for the backward pass; a number
                n: of every n-th block.
            recompute_within: see :class:`~sgflux.bases.memory.recomputation.Recompute`.

        Raises:
            ValueError: if the graph features do not fit the batch or the conditioner.
        """
        return self._suffix(
            prefix,
            graph,
            BlockRunner(None),
            gradient_checkpointing=gradient_checkpointing,
            recompute_within=recompute_within,
        )

    def suffix_with_concepts(
        self,
        prefix: PrefixState,
        graph: GraphFeatures | None = None,
        *,
        blocks: Sequence[int],
        gradient_checkpointing: bool | int = False,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`suffix`, and the concepts' raw scores, (len(blocks), B, N, S) float32.

        The velocity has the bits that it has without concepts. Scores of blocks before the first
        chosen one have no gradient.

        Raises:
            SgfluxError: if ``blocks`` does not fit the model.
            ValueError: if the prefix has no concepts; as :meth:`suffix`.
        """
        check_concept_blocks(blocks, num_layers=len(self.transformer.transformer_blocks))
        if prefix.concepts is None:
            raise ValueError("the prefix has no concepts: give it concept_states")
        runner = BlockRunner(
            prefix.concepts,
            prefix.concept_scores,
            last=max(blocks),
            with_concepts=self._concept_block,
        )
        velocity = self._suffix(
            prefix, graph, runner, gradient_checkpointing=gradient_checkpointing
        )
        return velocity, torch.stack([runner.scores[index] for index in blocks])

    def forward_with_concepts(
        self,
        *,
        concept_states: Tensor,
        concept_pooled_projections: Tensor,
        blocks: Sequence[int],
        graph: GraphFeatures | None = None,
        gradient_checkpointing: bool | int = False,
        **inputs: Any,
    ) -> tuple[Tensor, Tensor]:
        """The velocity, and where the network sees each concept while it predicts it.

        Args:
            concept_states: T5 features of the concepts, one token each, (B, N, D_t5).
            concept_pooled_projections: CLIP features that modulate the concepts, (B, D_clip).
            blocks: double blocks whose scores are returned.
            graph, gradient_checkpointing: see :meth:`forward`.
            inputs: the other arguments of :meth:`forward`.

        Returns:
            As :meth:`suffix_with_concepts`.
        """
        prefix = self.prefix(
            concept_states=concept_states,
            concept_pooled_projections=concept_pooled_projections,
            **inputs,
        )
        return self.suffix_with_concepts(
            prefix, graph, blocks=blocks, gradient_checkpointing=gradient_checkpointing
        )

    def _suffix(
        self,
        prefix: PrefixState,
        graph: GraphFeatures | None,
        runner: BlockRunner,
        *,
        gradient_checkpointing: bool | int,
        recompute_within: Within | None = None,
    ) -> Tensor:
        base, rotary = self.transformer, prefix.image_rotary_emb
        hidden_states, encoder_hidden_states = prefix.hidden_states, prefix.encoder_hidden_states
        every = int(gradient_checkpointing) if torch.is_grad_enabled() else 0
        run = Recompute(every, within=recompute_within)
        if graph is not None:
            self._check_graph(graph, batch=hidden_states.shape[0])
        chosen = base.transformer_blocks[self.block_start : self.block_end]

        # The chosen blocks, with the graph in them.
        if graph is None or self.graph_mode == "temb":
            tembs = [prefix.temb] * len(chosen)
            if graph is not None:
                tembs = self._graph_temb(graph, prefix.temb)
            for block, temb in zip(chosen, tembs, strict=True):
                encoder_hidden_states, hidden_states, _ = runner.through(
                    run, block, hidden_states, encoder_hidden_states, temb, rotary
                )
        else:
            tokens = self._graph_tokens(graph, dtype=hidden_states.dtype)
            states: Tensor | None = tokens.states
            for index, block in enumerate(chosen):
                assert states is not None, "they end with the last chosen block"
                side = GraphSide(
                    states=states,
                    mask=tokens.mask,
                    gate_image=tokens.present * self.gate_image[index],
                    gate_text=tokens.present * self.gate_text[index],
                    is_last=index == len(chosen) - 1,
                )
                encoder_hidden_states, hidden_states, states = runner.through(
                    run,
                    block,
                    hidden_states,
                    encoder_hidden_states,
                    prefix.temb,
                    rotary,
                    side,
                    with_graph=self._graph_block,
                )

        # The rest of the network, which knows nothing of graphs.
        for block in base.transformer_blocks[self.block_end :]:
            encoder_hidden_states, hidden_states, _ = runner.through(
                run,
                self._called(block),
                hidden_states,
                encoder_hidden_states,
                prefix.temb,
                rotary,
            )
        for block in base.single_transformer_blocks:
            encoder_hidden_states, hidden_states = run(
                self._called(block), hidden_states, encoder_hidden_states, prefix.temb, rotary
            )
        return base.proj_out(base.norm_out(hidden_states, prefix.temb))

    def _called(self, block: Any) -> Callable[..., Any]:
        """What calls a block: the block itself, unless its weights must be fetched first."""
        return block if self._offload is None else self._offload.called(block)

    def _check_graph(self, graph: GraphFeatures, *, batch: int) -> None:
        rows, triples = graph.mask.shape
        expected = {
            "local": (graph.local, (batch, triples, self.graph_local_dim)),
            "mask": (graph.mask, (batch, triples)),
            "global_": (graph.global_, (batch, self.graph_global_dim)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor.shape != shape:
                raise ValueError(
                    f"graph.{name} is {tuple(tensor.shape)}, expected {shape} for a batch of "
                    f"{batch} and a mask of {rows} by {triples}"
                )

    def _graph_tokens(self, graph: GraphFeatures, *, dtype: torch.dtype) -> GraphTokens:
        """[global, first triple's tokens ...] at the door of the first chosen block."""
        present = graph.present
        local, global_ = _without_padding(graph)
        with torch.autocast(local.device.type, enabled=False):
            local = self.graph_local_proj(self.graph_local_norm(local))
            global_ = self.graph_global_proj(self.graph_global_norm(global_))
        count = self.tokens_per_triple
        local = local.unflatten(-1, (count, -1))
        if graph.words is not None and count == graph.words.shape[2]:
            # What the base itself makes of the statement's words; the rest is learned beside it.
            embed = self.transformer.context_embedder
            local = local + embed(graph.words.to(embed.weight.dtype)).float()
        local = local.flatten(1, 2)  # (B, K * count, D)
        mask = graph.mask.repeat_interleave(count, dim=1)
        mask = torch.cat([torch.ones_like(present[:, None]), mask], dim=1)
        return GraphTokens(
            states=torch.cat([global_[:, None], local], dim=1).to(dtype),
            mask=(mask | ~present[:, None])[:, None, None, :],
            present=present[:, None, None].float(),
        )

    def _graph_temb(self, graph: GraphFeatures, temb: Tensor) -> list[Tensor]:
        """A timestep embedding for each chosen block, M of (B, D)."""
        _, global_ = _without_padding(graph)
        with torch.autocast(global_.device.type, enabled=False):
            shift = self.graph_global_to_temb(self.graph_global_norm(global_))
            shifts = graph.present[:, None] * shift * self.gate_temb[:, None]
        return [temb + shift for shift in shifts.to(temb.dtype)]


def _without_padding(graph: GraphFeatures) -> tuple[Tensor, Tensor]:
    """Local and global features in float32, zero where there is no triple or no graph."""
    local = graph.local.float().masked_fill(~graph.mask[..., None], 0.0)
    return local, graph.global_.float().masked_fill(~graph.present[:, None], 0.0)
