"""ConditionedFlux: a base's network with a scene graph in some of its blocks.

An explicit forward over the base's own blocks. Before the chosen blocks and after them the blocks
are simply called. In ``token`` mode [global, local ...] join as tokens at the first chosen block,
go through the chosen ones and are gone after the last. In ``temb`` mode gate * project(global) is
added to the chosen blocks' timestep embedding. Concept tokens may look on, which changes nothing
else. What a block does with graph tokens and concepts is its own, see
:class:`sgflux.bases.base.Block`.

Shapes: B batch, S image tokens, L text tokens, G = 1 + K graph tokens, D inner width, M chosen
blocks; N concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgflux.bases.base import GraphTokens, State, Text
from sgflux.bases.families import network_of
from sgflux.bases.memory.offload import BlockOffload
from sgflux.bases.memory.recomputation import Recompute, Within
from sgflux.errors import SgfluxError
from sgflux.models.block_range import (
    check_concept_blocks,
    default_block_range,
    validate_block_range,
)
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.prefix_state import PrefixState
from sgflux.settings.adapter import GraphMode

__all__ = ["ConditionedFlux", "PrefixState"]


class ConditionedFlux(nn.Module):
    """A base's transformer, conditioned on graphs through a range of its blocks.

    The transformer is used as it is: nothing is hooked, replaced or remembered on it. The module's
    own weights are float32 whatever the transformer is in.

    Attributes:
        network: The transformer, block by block.
    """

    def __init__(
        self,
        *,
        transformer: nn.Module,
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
            transformer: Transformer of one of the families, with or without LoRA in it.
            graph_local_dim: Width of :attr:`GraphFeatures.local`.
            graph_global_dim: Width of :attr:`GraphFeatures.global_`.
            graph_mode: ``token`` or ``temb``.
            tokens_per_triple: Number of graph tokens made of each local row (in token mode). Three
                leave the roles apart: a word of the prompt finds its own subject or object among
                the keys.
            block_start: First chosen block; both None: the middle third.
            block_end: One past the last chosen block.
            gate_init: Initial value of the gates; anything but 0 gives up the identity.

        Raises:
            SgfluxError: if the mode or the range is wrong, or a chosen block cannot take a graph as
                it is (fused projections, another attention processor).
        """
        super().__init__()
        if graph_mode not in ("token", "temb"):
            raise SgfluxError(f"graph_mode must be 'token' or 'temb', got {graph_mode!r}")
        if tokens_per_triple < 1:
            raise SgfluxError(f"tokens_per_triple must be >= 1, got {tokens_per_triple}")
        self.network = network = network_of(transformer)
        if block_start is None and block_end is None:
            block_start, block_end = default_block_range(network.num_layers)
        if block_start is None or block_end is None:
            raise SgfluxError("block_start and block_end belong together: give both or neither")
        validate_block_range(block_start, block_end, network.num_layers)
        for index in range(block_start, block_end):
            network.check_block(index)
        self.transformer = transformer
        self.graph_mode = graph_mode
        self.tokens_per_triple = tokens_per_triple
        self.block_start, self.block_end = block_start, block_end
        self.graph_local_dim, self.graph_global_dim = graph_local_dim, graph_global_dim
        chosen, inner = block_end - block_start, network.inner_dim
        options: dict[str, Any] = {"dtype": torch.float32, "device": network.device}
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
        self._offload: BlockOffload | None = None

    def conditioner_parameters(self) -> dict[str, nn.Parameter]:
        """The module's own weights by name, without the transformer's."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("transformer.")
        }

    def compile_blocks(self, **options: Any) -> None:
        """Compile the base's blocks, those with a graph or concepts in them as well.

        Args:
            options: Options of :func:`torch.compile`.
        """
        self.network.compile(**options)

    def offload_blocks(self, device: torch.device | str, *, folder: Path | None = None) -> None:
        """Keep all blocks but the chosen ones off the device until they run, all else on it.

        The chosen blocks are looked into rather than called, so their weights stay.

        Args:
            device: Device on which everything runs.
            folder: Folder for the weights; None: they stay in the CPU's memory.

        Raises:
            SgfluxError: as there.
        """
        blocks = [block.module for block in self.network.blocks]
        away = [*blocks[: self.block_start], *blocks[self.block_end :]]
        self._offload = BlockOffload(away, device=device, folder=folder)
        self._offload.move_the_rest(self)

    def forward(
        self,
        inputs: Any,
        *,
        graph: GraphFeatures | None = None,
        gradient_checkpointing: bool | int = False,
    ) -> Tensor:
        """The velocity of packed latents, (B, S, c).

        Args:
            inputs: Result of :meth:`sgflux.bases.base.Network.inputs` for B examples.
            graph: Features of B graphs; None: no graph at all.
            gradient_checkpointing: Keep only the blocks' inputs for the backward pass; with a
                number, only those of every so many blocks.

        Raises:
            ValueError: on shapes that do not fit together.
        """
        prefix = self.prefix(inputs)
        return self.suffix(prefix, graph, gradient_checkpointing=gradient_checkpointing)

    @torch.no_grad()
    def prefix(
        self, inputs: Any, *, concepts: Tensor | None = None, concept_text: Text | None = None
    ) -> PrefixState:
        """Everything before the first chosen block, without gradient; see :meth:`forward`.

        Its result serves any number of graphs, with LoRA on or off. With concepts it also serves
        :meth:`suffix_with_concepts`.

        Args:
            inputs: Inputs of the network, as for :meth:`forward`.
            concepts: Features of N concepts, one token each, (B, N, D_text); None without any.
            concept_text: Features of the texts that modulate the concepts.

        Raises:
            ValueError: if only one of the two arguments about concepts is given.
        """
        state = self.network.embed(inputs, concepts=concepts, concept_text=concept_text)
        if concepts is not None and self._offload is not None:
            raise ValueError("concepts look into blocks whose weights are offloaded")
        for index in range(self.network.num_layers if concepts is not None else 0):
            self.network.check_block(index)
        run = Recompute(0)
        scores: list[Tensor] = []
        for index in range(self.block_start):
            state, _ = self._block(index, state, run, scores=scores)
        return PrefixState(state, tuple(scores))

    def suffix(
        self,
        prefix: PrefixState,
        graph: GraphFeatures | None = None,
        *,
        gradient_checkpointing: bool | int = False,
        recompute_within: Within | None = None,
    ) -> Tensor:
        """The chosen blocks and all after them: the velocity, (B, S, c).

        Args:
            prefix: Prefix of the same B examples; concepts in it are passed over.
            graph, gradient_checkpointing: Graph features and recomputation, as for :meth:`forward`.
            recompute_within: Context that blocks are recomputed in; None: no further one.

        Raises:
            ValueError: if the graph features do not fit the batch or the conditioner.
        """
        run = Recompute(_every(gradient_checkpointing), within=recompute_within)
        return self._suffix(prefix, graph, run, last_watched=-1)[0]

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
        check_concept_blocks(blocks, num_layers=self.network.num_layers)
        if prefix.state.concepts is None:
            raise ValueError("the prefix has no concepts: give it some")
        run = Recompute(_every(gradient_checkpointing))
        velocity, scores = self._suffix(prefix, graph, run, last_watched=max(blocks))
        return velocity, torch.stack([scores[index] for index in blocks])

    def _suffix(
        self, prefix: PrefixState, graph: GraphFeatures | None, run: Recompute, *, last_watched: int
    ) -> tuple[Tensor, list[Tensor]]:
        """The velocity, and the concepts' scores in all blocks up to ``last_watched``."""
        state, scores = prefix.state, list(prefix.concept_scores)

        # The graph, as tokens or as a timestep embedding for each chosen block.
        tokens: Tensor | None = None
        tembs = [state.temb] * (self.block_end - self.block_start)
        if graph is not None:
            self._check_graph(graph, batch=len(state.hidden_states))
            if self.graph_mode == "temb":
                tembs = self._graph_temb(graph, state.temb)
            else:
                tokens, mask = self._graph_tokens(graph, dtype=state.hidden_states.dtype)
                present = graph.present[:, None, None].float()

        # The chosen blocks, with the graph in them.
        for number, temb in enumerate(tembs):
            index, side = self.block_start + number, None
            if tokens is not None:
                side = GraphTokens(
                    states=tokens,
                    mask=mask,
                    gate_image=present * self.gate_image[number],
                    gate_text=present * self.gate_text[number],
                    is_last=index == self.block_end - 1,
                )
            watched = scores if index <= last_watched else None
            state, tokens = self._block(index, state._replace(temb=temb), run, side, scores=watched)

        # The rest of the network, which knows nothing of graphs.
        state = state._replace(temb=prefix.state.temb)
        for index in range(self.block_end, len(self.network.blocks)):
            watched = scores if index <= last_watched else None
            state, _ = self._block(index, state, run, scores=watched)
        return self.network.velocity(state), scores

    def _block(
        self,
        index: int,
        state: State,
        run: Recompute,
        graph: GraphTokens | None = None,
        *,
        scores: list[Tensor] | None,
    ) -> tuple[State, Tensor | None]:
        """The state and the graph tokens after a block.

        Args:
            index: Number of the block.
            state: State before it.
            run: Calls it, with or without recomputation in the backward pass.
            graph: Graph tokens before it; None without any.
            scores: Gets what the state's concepts see there, if there are any; None: they rest.
        """
        block = self.network.blocks[index]
        if state.concepts is not None and scores is not None:
            state, states, found = run(block.with_concepts, state, graph)
            scores.append(found)
            return state, states
        state = state._replace(concepts=None)
        if graph is not None:
            return run(block.with_graph, state, graph)
        call = block.module if self._offload is None else self._offload.called(block.module)
        return run(partial(block.plain, call=call), state), None

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

    def _graph_tokens(self, graph: GraphFeatures, *, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[global, first triple's tokens ...] before the first chosen block, and their mask.

        Returns:
            Tokens (B, G, D), and which of them may be attended to, (B, 1, 1, G) bool. All of a null
            graph's tokens may be, so that no softmax is empty; its gates are zero.
        """
        present = graph.present
        local, global_ = _without_padding(graph)
        with torch.autocast(local.device.type, enabled=False):
            local = self.graph_local_proj(self.graph_local_norm(local))
            global_ = self.graph_global_proj(self.graph_global_norm(global_))
        count = self.tokens_per_triple
        local = local.unflatten(-1, (count, -1))
        if graph.words is not None and count == graph.words.shape[2]:
            # What the base itself makes of the statement's words; the rest is learned beside it.
            local = local + self.network.embed_words(graph.words).float()
        states = torch.cat([global_[:, None], local.flatten(1, 2)], dim=1).to(dtype)
        mask = graph.mask.repeat_interleave(count, dim=1)
        mask = torch.cat([torch.ones_like(present[:, None]), mask], dim=1)
        return states, (mask | ~present[:, None])[:, None, None, :]

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


def _every(gradient_checkpointing: bool | int) -> int:
    return int(gradient_checkpointing) if torch.is_grad_enabled() else 0
