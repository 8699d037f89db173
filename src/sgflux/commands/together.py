"""Commands that several processes of a launcher may run together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sgflux.commands.command import Command

if TYPE_CHECKING:
    from sgflux.sampling.companions import Companions

Config = TypeVar("Config", bound=Any)


class Together(NamedTuple):
    """What a command does with its companions.

    Attributes:
        companions: Processes that share the work.
        is_first: Whether this is the process that prints.
        say: Function that shows a line to the user, in the first process alone.
    """

    companions: Companions
    is_first: bool
    say: Callable[[str], None]


@contextmanager
def together(command: Command, config: Config) -> Iterator[tuple[Config, Together]]:
    """Hold a command's output folder in one of the processes that a launcher started, if it did.

    Args:
        command: Command that runs.
        config: Settings of the command, with ``compute`` and ``output_dir``.

    Yields:
        The settings with the device of this process, and the processes.

    Raises:
        SgfluxError: in every process, if another command holds the folder.
    """
    from sgflux.sampling.companions import ALONE

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        with command.hold(config.output_dir):
            yield config, Together(ALONE, True, print)
        return
    from sgflux.training.processes.launcher import check_launcher
    from sgflux.training.processes.processes import Processes

    check_launcher(dtype=config.compute.dtype)
    processes = Processes.start(config.compute.device)
    config = replace(config, compute=replace(config.compute, device=str(processes.device)))
    say = print if processes.is_main else _say_nothing
    with processes.hold(config.output_dir, command=command.prog):
        yield config, Together(processes, processes.is_main, say)


def _say_nothing(line: str) -> None:
    """Leave it to the first process."""
