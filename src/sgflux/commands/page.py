"""``sgflux page``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.settings.checks import expect_defaults
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.flat import Group, Input
from sgflux.settings.judges import JudgeSettings
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
    which need not be there. Without --adapter, the page begins with the adapter that comes
    with sgflux ('tiny'), or else with the newest adapter in the folder."""
    judge: str | None = None
    """Judge that reads the pictures, as in 'sgflux eval --help'; 'none' leaves them unread. By
    default it is 'world' for pictures of the bundled model, and else 'none'."""
    judges: Group[JudgeSettings] = field(default_factory=JudgeSettings)
    """Judges."""
    trained: Group[TrainedAdapter] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if self.judge is None:
            names = ("detector", "judge_model", "judge_batch_size")
            expect_defaults(self.judges, "without judge", *names)


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
            judge=flags.judge,
            judges=flags.judges,
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
