"""``sgflux doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sgflux.commands.command import Command


@dataclass(frozen=True, kw_only=True)
class DoctorFlags:
    """Flags of ``sgflux doctor``."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Print what an issue report needs."""
    command.parse(DoctorFlags, arguments)
    from sgflux.doctor import doctor_lines

    for line in doctor_lines():
        print(line)
    return 0


COMMAND = Command(
    words=("doctor",),
    purpose="Print versions, devices, memory and caches, for an issue report",
    example="sgflux doctor",
    run=run,
)
