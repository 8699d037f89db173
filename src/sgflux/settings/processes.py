"""How several processes share a training."""

from __future__ import annotations

from sgflux.settings.checks import settings


@settings
class ProcessSettings:
    """How several processes share a training."""

    shard_base: bool = False
    """Share the frozen weights of the base between the processes of a machine (FSDP2): each holds a
    part of them and gathers a block while it runs; less memory, more traffic between the devices
    (docs/multi_gpu.md)."""
