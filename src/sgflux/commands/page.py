"""``sgflux page``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.flat import Group, Input
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """Flags of ``sgflux page``."""

    host: str = "127.0.0.1"
    """Address that the page listens on. The default is reached from this machine alone; 0.0.0.0 is
    reached by everybody in the network, who may then draw and read the runs."""
    port: int = 8080
    """Number of the port that the page listens on; 0 takes a free one."""
    show: bool = True
    """Open the page in a browser."""
    runs: Input[Path | None] = None
    """Folder in which adapters, trainings and evaluations are looked for. By default it is runs/,
    which need not be there."""
    trained: Group[TrainedAdapter] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""


def run(command: Command, arguments: Sequence[str]) -> int:
    """Serve the page; returns the exit status."""
    flags = command.parse(PageFlags, arguments)
    if flags.trained.adapter is not None or flags.model.model_id is not None:
        check_given(flags.model, flags.trained)
    from sgflux.web.server import PageSettings, serve

    serve(
        PageSettings(
            host=flags.host,
            port=flags.port,
            show=flags.show,
            runs=flags.runs or Path("runs"),
            model=flags.model,
            trained=flags.trained,
            compute=flags.compute,
        )
    )
    return 0


COMMAND = Command(
    words=("page",),
    purpose="Draw graphs in a browser and see them obeyed",
    example="sgflux page --adapter runs/demo/training/final",
    run=run,
)
