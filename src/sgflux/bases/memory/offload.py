"""Weights of whole blocks kept off the device, and brought there while a block runs.

diffusers' hooks for groups of modules do that for a transformer that is called as it is, without
gradient; :func:`offload_for_sampling` sets them up. In training they are wrong, in silence: they
swap the data of a block's weights around its forward pass, and a backward pass reads what is there
by then. Gradient checkpointing does not help, since a recomputation remembers frozen weights by
reference (measured with diffusers 0.42 and torch 2.13: gradients made of uninitialised memory).
:class:`BlockOffload` therefore gives a block its weights as arguments of a call. What the backward
pass needs of them then lives exactly as long as the activations beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from sgflux.bases.base import Network
from sgflux.errors import SgfluxError, located
from sgflux.files.writing import make_folder, naming_disk_errors


def offloadable(network: Network, start: int, end: int) -> list[nn.Module]:
    """The blocks whose weights may be away: not chosen, and frozen.

    Args:
        network: Network of the base, with its LoRA in it.
        start: Index of the first chosen block.
        end: Index after the last chosen block.
    """
    blocks = [block.module for block in (*network.blocks[:start], *network.blocks[end:])]
    return [block for block in blocks if not any(w.requires_grad for w in block.parameters())]


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
            blocks: frozen; from now on to be called through :meth:`called`.
            device: Device that the blocks run on.
            folder: keep the weights in files of a folder of its own below this one, which goes
                when this object does; None: keep them in the CPU's memory.

        Raises:
            SgfluxError: if there is nothing to gain, or the folder cannot be used.
        """
        self.blocks = tuple(blocks)
        self._device = torch.device(device)
        check_gain(self._device, folder)
        self._folder = None if folder is None else _own_folder(folder)
        self._files: dict[nn.Module, Path] = {}
        for number, block in enumerate(self.blocks):
            if self._folder is not None:
                path = Path(self._folder.name) / f"{number}.safetensors"
                weights = {n: w.detach().contiguous() for n, w in _weights(block)}
                with naming_disk_errors(path, size=sum(w.nbytes for w in weights.values())):
                    save_file(weights, path)
                self._files[block] = path
            for _, weight in _weights(block):
                if self._folder is not None:
                    weight.data = torch.empty(0, dtype=weight.dtype)
                elif self._device.type == "cuda":
                    weight.data = weight.data.cpu().pin_memory()  # copied in half the time
                else:
                    weight.data = weight.data.cpu()

    def called(self, block: nn.Module) -> Callable[..., Any]:
        """A block, or what calls it with its weights fetched."""
        return partial(self._run, block) if any(one is block for one in self.blocks) else block

    def _run(self, block: nn.Module, *arguments: Any) -> Any:
        return functional_call(block, self._fetched(block), arguments)

    def _fetched(self, block: nn.Module) -> dict[str, Tensor]:
        if block in self._files:
            return load_file(self._files[block], device=str(self._device))
        return {
            name: weight.detach().to(self._device, non_blocking=True)
            for name, weight in _weights(block)
        }

    def move_the_rest(self, module: nn.Module) -> None:
        """Bring all that is not in one of these blocks to the device, for good."""
        if any(module is block for block in self.blocks):
            return
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.data = tensor.data.to(self._device)
        for child in module.children():
            self.move_the_rest(child)


def offload_for_sampling(
    transformer: Any, *, device: torch.device | str, folder: Path | None = None
) -> Any:
    """Let diffusers fetch the weights of a transformer that is called as it is, without gradient.

    Args:
        transformer: Transformer without an adapter.
        device: Device that the model runs on.
        folder: Folder of the weights, as for :class:`BlockOffload`.

    Returns:
        What the weights' files live as long as; None if they are in the CPU's memory.

    Raises:
        SgfluxError: as :class:`BlockOffload`.
    """
    device = torch.device(device)
    check_gain(device, folder)
    own = None if folder is None else _own_folder(folder)
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=None if own is None else own.name,
    )
    return own


def _weights(block: nn.Module) -> list[tuple[str, Tensor]]:
    return [*block.named_parameters(), *block.named_buffers()]


def check_gain(device: torch.device, folder: Path | None) -> None:
    """Check that weights that are moved away are not in the memory that is computed in.

    Args:
        device: Device that computes.
        folder: Folder for the weights; None: they are kept in the CPU's memory.

    Raises:
        SgfluxError: if they would be.
    """
    if device.type == "cpu" and folder is None:
        raise SgfluxError(
            "offload_blocks has no effect on the CPU, whose memory the weights would be moved to; "
            "give offload_folder to keep them in files, or drop it"
        )


def _own_folder(folder: Path) -> Any:
    with located("offload_folder"), naming_disk_errors(folder):
        return tempfile.TemporaryDirectory(prefix="sgflux-", dir=make_folder(folder))
