"""Weights of whole blocks kept off the device, and brought there while a block runs.

Through diffusers' own hooks for groups of modules. They swap the data of a block's weights around
its forward pass. A backward pass finds the right data only where that forward pass is computed
again within it, so training needs gradient checkpointing of every block, and the recomputation must
run to the block's end: stopped early, it would leave the weights on the device.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from sgflux.errors import SgfluxError


class BlockOffload:
    """Blocks whose weights are away while they do not run.

    Attributes:
        blocks: these blocks.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        *,
        device: torch.device | str,
        folder: Path | None = None,
    ) -> None:
        """Send the weights away.

        Args:
            blocks: called as modules, frozen.
            device: where they run.
            folder: keep the weights in files of a folder of its own below this one, which goes
                when this object does; None: keep them in the CPU's memory.

        Raises:
            SgfluxError: if there is nothing to gain, or the folder cannot be used.
        """
        device = torch.device(device)
        if device.type == "cpu" and folder is None:
            raise SgfluxError(
                "offload_blocks has no effect on the CPU, whose memory the weights would be moved "
                "to; give offload_folder to keep them in files, or drop it"
            )
        self.blocks = tuple(blocks)
        self._files: Any = None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._files = tempfile.TemporaryDirectory(prefix="sgflux-", dir=folder)
            except OSError as error:
                raise SgfluxError(
                    f"offload_folder {str(folder)!r} cannot be used: {error.strerror or error}"
                ) from error
        holder = nn.Module()
        holder.blocks = nn.ModuleList(self.blocks)  # diffusers looks for a list of blocks
        apply_group_offloading(
            holder,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            offload_to_disk_path=None if self._files is None else self._files.name,
        )

    def move_the_rest(self, module: nn.Module, device: torch.device | str) -> None:
        """``module.to(device)`` for all that is not in one of these blocks."""
        if any(module is block for block in self.blocks):
            return
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.data = tensor.data.to(device)
        for child in module.children():
            self.move_the_rest(child, device)
