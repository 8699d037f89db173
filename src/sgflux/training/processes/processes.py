"""The processes of one run, as ``accelerate launch`` started them; one of them is the usual case.

The gradients of the trained weights are averaged by DDP (:mod:`.gradients`), and the frozen base is
shared by FSDP2 where that is asked for (:mod:`sgflux.bases.memory.sharding`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    DistributedType,
    gather_object,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sgflux.bases.devices import usable_device
from sgflux.errors import SgfluxError
from sgflux.files.folder_lock import hold_folder
from sgflux.training.processes.gradients import SharedGradients

Item = TypeVar("Item")

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        index: 0 is the one that writes and prints.
        count: Number of processes, on all machines.
        device: Device of this process.
    """

    index: int
    count: int
    device: torch.device

    @classmethod
    def start(cls, device: str) -> Processes:
        """Join the processes that accelerate's launcher started, if it did.

        Args:
            device: "auto", or a torch device; with several processes only its type, since the
                launcher numbers the devices.

        Raises:
            SgfluxError: if the device is not there, or the launcher was configured for something
                that this trainer does not do (DeepSpeed, ...).
        """
        if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
            raise SgfluxError(
                "accelerate is configured with ACCELERATE_USE_DEEPSPEED=true, which has no effect "
                "on an adapter this small; launch with --multi_gpu, or with --use_fsdp "
                "--fsdp_version 2 to share the base"
            )
        launched_on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"
        wanted = None if device == "auto" else usable_device(device)
        if wanted is None:
            on_cpu = launched_on_cpu or not torch.accelerator.is_available()
        else:
            on_cpu = wanted.type == "cpu"
            if launched_on_cpu and not on_cpu:
                raise SgfluxError(
                    f"device is {device!r}, but accelerate was told to use the CPU; drop one"
                )
        state = PartialState(cpu=on_cpu)
        if state.distributed_type not in _SUPPORTED:
            raise SgfluxError(
                f"accelerate started processes of the type {state.distributed_type}; expected "
                + " or ".join(str(kind.value) for kind in _SUPPORTED)
            )
        _expect_the_number_launched(state.num_processes)
        if state.num_processes == 1:
            # The state is one per interpreter and remembers the first device that was asked for.
            chosen = torch.device("cpu") if on_cpu else wanted or state.default_device
        elif wanted is None or wanted.type == state.device.type:
            chosen = state.device
        else:
            raise SgfluxError(
                f"device is {device!r}, but accelerate launched {state.num_processes} processes "
                f"on {state.device.type!r}; drop one of the two settings"
            )
        return cls(index=state.process_index, count=state.num_processes, device=chosen)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.index == 0

    def wait(self) -> None:
        """Return when every process has got here."""
        if self.count > 1:
            PartialState().wait_for_everyone()

    @contextmanager
    def hold(
        self,
        folder: Path,
        *,
        command: str,
        part: str = "",
        say: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Let the main process hold a folder for all processes; see :func:`hold_folder`.

        Raises:
            SgfluxError: in every process, if somebody else holds it.
        """
        refusals: list[str] = []
        with ExitStack() as held:
            if self.is_main:
                try:
                    held.enter_context(hold_folder(folder, command=command, part=part, say=say))
                except SgfluxError as error:
                    refusals.append(str(error))
            refusals = self.gather(refusals)
            if refusals:
                raise SgfluxError(refusals[0])
            yield

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process before the others."""
        if self.count == 1:
            yield
        else:
            with PartialState().main_process_first():
                yield

    def sharers(self) -> int:
        """Number of processes that share one base: those of this machine, or all if it has one.

        Raises:
            SgfluxError: if there is one process, or the machines have different numbers of them.
        """
        if self.count == 1:
            raise SgfluxError(
                "shard_base has no effect with one process; start several with accelerate launch "
                "or torchrun (docs/multi_gpu.md), or leave it out"
            )
        here = self.gather([int(os.environ.get("LOCAL_WORLD_SIZE", self.count))])
        if len(set(here)) > 1:
            raise SgfluxError(
                "shard_base needs the same number of processes on every machine, got "
                + ", ".join(map(str, sorted(set(here))))
            )
        return self.count if here[0] == 1 else here[0]

    def sharing_base(self) -> DeviceMesh:
        """The processes that share a base with this one, see :meth:`sharers`."""
        shape, names = (self.count // self.sharers(), self.sharers()), ("group", "sharer")
        return init_device_mesh(self.device.type, shape, mesh_dim_names=names)["sharer"]

    def passes(self, total: int) -> list[tuple[int, float]]:
        """The forward passes of a step that this process does.

        All processes do equally many of them, since they meet in every pass: where the passes
        cannot be divided, some are done twice and count once.

        Args:
            total: Number of passes of a step over all processes.

        Returns:
            Number of each pass, from 0 to ``total`` - 1, and what its loss is divided by, so that
            the mean over the processes is the mean over the passes; infinity for one that another
            process does as well.
        """
        places = range(self.index, -(-total // self.count) * self.count, self.count)
        return [
            (place % total, total / self.count if place < total else math.inf) for place in places
        ]

    def gradients(self, weights: Sequence[nn.Parameter]) -> SharedGradients:
        """What averages the gradients of these weights over the processes."""
        return SharedGradients(weights, several=self.count > 1)

    def average_(self, buffer: Tensor) -> Tensor:
        """Replace ``buffer`` by its mean over the processes, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(buffer)
            buffer /= self.count
        return buffer

    def gather(self, items: list[Item]) -> list[Item]:
        """The lists of all processes, joined in the order of the processes."""
        if self.count == 1:
            return items
        gathered: list[Item] = gather_object(items)
        return gathered


def _expect_the_number_launched(count: int) -> None:
    """Refuse to run as fewer processes than were asked for, or beside others unawares."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if count < launched:
        raise SgfluxError(
            f"{launched} processes were launched, but accelerate sees {count}; give --device the "
            "kind of device that they are to use"
        )
    # With --cpu and without MPI, accelerate's launcher prepares for several and starts one.
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if by_accelerate and "MASTER_ADDR" in os.environ and count == launched == 1:
        raise SgfluxError(
            "accelerate launch --cpu was to start several processes, but without MPI it starts "
            "one; use `torchrun --nproc_per_node N -m sgflux train --device cpu ...`"
        )
