"""``sgflux page``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from sgflux.commands.command import Command
from sgflux.commands.inputs import check_given
from sgflux.settings.checks import expect_defaults
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.flat import Group, Input, Texts
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter

_ADAPTER = Texts(
    {
        "adapter": "Adapter that the page begins with: folder of a trained adapter (final/ of a "
        "run), or its id[@revision] on the hub, or 'tiny', which comes with sgflux. By default it "
        "is 'tiny'."
    }
)
_MODEL = Texts(
    {
        "model_id": "Base model that the page begins with: an id on the hub, a diffusers folder, a "
        "single .safetensors file, or 'tiny', the model that comes with the package. By default it "
        "is the base that the chosen adapter names, or 'tiny' without an adapter."
    }
)


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
    judge: str | None = None
    """Judge that reads the pictures, as in 'sgflux eval --help'; 'none' leaves them unread. By
    default it is 'world' for pictures of the bundled model, and else 'none'."""
    judges: Group[JudgeSettings] = field(default_factory=JudgeSettings)
    """Judges."""
    trained: Annotated[Group[TrainedAdapter], _ADAPTER] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: Annotated[Group[ModelSource], _MODEL] = field(default_factory=ModelSource)
    """Base model."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""
    memory: Group[MemorySettings] = field(default_factory=MemorySettings)
    """Memory of the device."""
    size: Group[SizeSettings] = field(default_factory=SizeSettings)
    """Size and guidance."""

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

    # NiceGUI takes a process that has this from pytest for a test of its own, and does not serve.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
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
            memory=flags.memory,
            size=flags.size,
        )
    )
    return 0


COMMAND = Command(
    words=("page",),
    purpose="Draw graphs in a browser and see them obeyed",
    example="sgflux page",
    run=run,
)
