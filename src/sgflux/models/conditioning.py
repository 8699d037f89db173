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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sgflux.bases.base import GraphTokens, Rotary, State, Text
from sgflux.bases.families import network_of
from sgflux.bases.memory.offload import BlockOffload, offloadable
from sgflux.bases.memory.recomputation import Recompute, Within
from sgflux.models.block_range import check_concept_blocks, validate_block_range
from sgflux.models.box_map import BoxMap
from sgflux.models.conditioner import Conditioner
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.prefix_state import PrefixState

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from sgflux.bases.memory.sharding import BlockShards

__all__ = ["ConditionedFlux", "PrefixState"]


class ConditionedFlux(nn.Module):
    """A base's transformer, conditioned on graphs through a range of its blocks.

    The transformer is used as it is: nothing is hooked, replaced or remembered on it.

    Attributes:
        network: The transformer, block by block.
        conditioner: Trained weights between a graph's features and the chosen blocks.
    """

    def __init__(
        self,
        *,
        transformer: nn.Module,
        conditioner: Conditioner,
        block_start: int,
    ) -> None:
        """Put a conditioner around a transformer.

        Args:
            transformer: Transformer of one of the families, with or without LoRA in it.
            conditioner: Conditioner of the chosen blocks.
            block_start: First chosen block; the conditioner says how many there are.

        Raises:
            SgfluxError: if the range is wrong, or a chosen block cannot take a graph as it is
                (fused projections, another attention processor).
        """
        super().__init__()
        self.network = network_of(transformer)
        self.block_start, self.block_end = block_start, block_start + conditioner.blocks
        validate_block_range(self.block_start, self.block_end, self.network.num_layers)
        for index in range(self.block_start, self.block_end):
            self.network.check_block(index)
        self.transformer = transformer
        self.conditioner = conditioner
        self._offload: BlockOffload | None = None
        self._shards: BlockShards | None = None

    def compile_blocks(self, **options: Any) -> None:
        """Compile the base's blocks, those with a graph or concepts in them as well.

        Args:
            options: Options of :func:`torch.compile`.
        """
        self.network.compile(**options)

    def offload_blocks(self, device: torch.device | str, *, folder: Path | None = None) -> None:
        """Keep blocks off the device until they run, all else on it.

        The chosen blocks stay, since they are looked into rather than called, and so do blocks
        with trained weights.

        Args:
            device: Device on which everything runs.
            folder: Folder for the weights; None: they stay in the CPU's memory.

        Raises:
            SgfluxError: as there.
        """
        away = offloadable(self.network, self.block_start, self.block_end)
        self._offload = BlockOffload(away, device=device, folder=folder)
        self._offload.move_the_rest(self)

    @property
    def is_shared(self) -> bool:
        """Whether several processes share the blocks, and so must call them equally often."""
        return self._shards is not None

    def share_blocks(self, mesh: DeviceMesh, device: torch.device | str) -> None:
        """Share the frozen weights of all blocks between processes, which keep all else whole.

        Args:
            mesh: Processes that share the blocks, in one dimension.
            device: Device on which everything runs in this process.
        """
        # Most programs have one process and need not load this part of torch.
        from sgflux.bases.memory.sharding import BlockShards, move_what_is_whole

        blocks = [block.module for block in self.network.blocks]
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        self._shards = BlockShards(blocks, mesh=mesh, whole=trained)
        move_what_is_whole(self, device)

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
        rotary: Rotary | None = None
        bias: Tensor | None = None
        painted: Tensor | None = None
        box_map: BoxMap | None = None
        tembs = [state.temb] * (self.block_end - self.block_start)
        if graph is not None:
            self.conditioner.check(graph, batch=len(state.hidden_states))
            if self.conditioner.graph_mode == "temb":
                tembs = self.conditioner.tembs(graph, state.temb)
            else:
                tokens, mask = self.conditioner.tokens(
                    graph, network=self.network, dtype=state.hidden_states.dtype
                )
                present = graph.present[:, None, None].float()
                if (places := self.conditioner.places(graph)) is not None:
                    rotary = self.network.rotary_at(state, *places)
                bias = self.conditioner.attention_bias(graph, network=self.network, state=state)
                if (box_map := self.conditioner.box_map) is not None:
                    painted = box_map(graph, network=self.network, state=state)

        # The chosen blocks, with the graph in them.
        for number, temb in enumerate(tembs):
            index, side = self.block_start + number, None
            if tokens is not None:
                side = GraphTokens(
                    states=tokens,
                    mask=mask,
                    gate_image=present * self.conditioner.gate_image[number],
                    gate_text=present * self.conditioner.gate_text[number],
                    is_last=index == self.block_end - 1,
                    rotary=rotary,
                    bias=bias,
                )
            if box_map is not None and painted is not None:
                image = state.hidden_states + box_map.gated(painted, number).to(state.temb.dtype)
                state = state._replace(hidden_states=image)
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
        call_block = run if self._shards is None else self._shards.gathered(block.module, run)
        if state.concepts is not None and scores is not None:
            state, states, found = call_block(block.with_concepts, state, graph)
            scores.append(found)
            return state, states
        state = state._replace(concepts=None)
        if graph is not None:
            return call_block(block.with_graph, state, graph)
        call = block.module if self._offload is None else self._offload.called(block.module)
        return call_block(partial(block.plain, call=call), state), None


def _every(gradient_checkpointing: bool | int) -> int:
    return int(gradient_checkpointing) if torch.is_grad_enabled() else 0
