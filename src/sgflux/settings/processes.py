"""How several processes share a training."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import typed_fields


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """How several processes share a training."""

    shard_base: bool = False
    """Share the frozen weights of the base between the processes of a machine (FSDP2): each holds a
    part of them and gathers a block while it runs; less memory, more traffic between the devices
    (docs/multi_gpu.md)."""

    def __post_init__(self) -> None:
        """Check every value."""
        typed_fields(self)
