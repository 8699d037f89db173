"""The frozen weights of whole blocks, shared by several processes.

Each process holds a part of every block, and a block's weights are gathered while it runs, in the
forward and in the backward pass. torch's FSDP2 does that around the ``forward`` of a module. A
block with a graph in it is looked into rather than called, so every block gets a module around it,
whose ``forward`` runs any function of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor


class _Around(nn.Module):
    """A block, and a ``forward`` that runs a function of it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, run: Callable[..., Any], function: Callable[..., Any], *records: Any) -> Any:
        return run(function, *records)


class _AllBlocks(nn.Module):
    """All blocks: what FSDP2 keeps once for all of them begins with a call of this module."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self) -> None:
        pass


class BlockShards:
    """Blocks whose frozen weights are shared by the processes of a mesh."""

    def __init__(
        self, blocks: Sequence[nn.Module], *, mesh: DeviceMesh, whole: Collection[nn.Parameter]
    ) -> None:
        """Keep this process' part of every block on the mesh's device.

        Args:
            blocks: Blocks in the order in which they run.
            mesh: Processes that share them, in one dimension.
            whole: Weights of the blocks that every process keeps whole: those that are trained.
        """
        around = [_Around(block) for block in blocks]
        options: dict[str, Any] = {"mesh": mesh, "ignored_params": set(whole)}
        shared: list[FSDPModule] = [fully_shard(one, **options) for one in around]
        for one, following in pairwise(shared):
            one.set_modules_to_forward_prefetch([following])
        self._all = _AllBlocks(around)
        fully_shard(self._all, **options)
        self._all()
        self._around = dict(zip(blocks, around, strict=True))

    def gathered(self, block: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
        """A form of ``run`` whose functions find the weights of the block whole.

        Args:
            block: One of the blocks.
            run: Calls a function with records, with recomputation in the backward pass or without.
        """
        return partial(self._around[block], run)


def move_what_is_whole(module: nn.Module, device: torch.device | str) -> None:
    """Bring all weights and buffers of a module to a device, but those that are shared."""
    for tensor in (*module.parameters(), *module.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device)
