"""The origin of a run: a checkpoint that it goes on from, an adapter, or untrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.bases.families import expect_family, family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.errors import SgfluxError, first_line, located
from sgflux.models.adapter_config import AdapterConfig
from sgflux.settings.flat import flat_defaults
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.checkpoint import CheckpointError, TrainingState
from sgflux.training.checkpoints.initial import (
    InitialAdapter,
    adopted,
    as_started,
    read_initial,
    sizes_of,
)
from sgflux.training.checkpoints.resuming import (
    check_length,
    check_resumable,
    check_same_transformer,
)
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.encoding.encode import PlannedEncoding
from sgflux.training.encoding.graph_encoder import cgip_vocabulary
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.loop import TrainingRun
from sgflux.training.processes.processes import Processes


@dataclass(frozen=True, eq=False)
class Resumed:
    """A checkpoint that a run goes on from.

    Attributes:
        state: Content of the checkpoint.
        path: File of the checkpoint.
    """

    state: TrainingState
    path: Path

    def crop_of(self, config: TrainConfig, planned: PlannedEncoding) -> TrainConfig:
        """Return the configuration with the checkpoint's crop where both show the same pictures.

        Older versions had another default than 'auto'.
        """
        was: Any = self.state.config.get("crop")
        if config.pictures.crop == "auto" and was != "auto" and planned.is_shown_as(was):
            return config.changed(crop=was)
        return config

    def compare(
        self,
        config: TrainConfig,
        splits: Splits,
        planned: PlannedEncoding,
        base: BaseIdentity,
        *,
        processes: Processes,
    ) -> list[str]:
        """Check that a run with this configuration goes on with the run of the checkpoint.

        Returns:
            Changes that are allowed, and what could not be compared, a line each.

        Raises:
            SgfluxError: naming everything that differs.
        """
        return check_resumable(
            self.state,
            path=self.path,
            settings=config.to_json(),
            defaults=flat_defaults(TrainConfig),
            data=splits.digests,
            content=planned.content,
            base=base,
            allow_other_base=config.start.allow_other_base,
            processes=processes.count,
        )

    def check_length(self, max_steps: int) -> None:
        """Refuse a number of steps that the checkpoint is beyond.

        Raises:
            SgfluxError: naming both numbers.
        """
        check_length(self.state, path=self.path, max_steps=max_steps)

    def check_transformer(self, adapter: AdapterConfig, *, allow_other: bool) -> None:
        """Compare the loaded transformer with that of the checkpoint.

        Raises:
            SgfluxError: naming what differs.
        """
        check_same_transformer(self.state, adapter, path=self.path, allow_other=allow_other)

    def restore(self, run: TrainingRun) -> None:
        """Bring a run to where the checkpoint was saved.

        Raises:
            CheckpointError: if the checkpoint does not fit the run, or an inner part is damaged,
                which an older checkpoint has no checksum for.
        """
        try:
            run.resume(self.state)
        except SgfluxError as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.path}: is damaged: {first_line(error)}") from error


def origin_of(
    config: TrainConfig, *, say: Say
) -> tuple[TrainConfig, Resumed | None, InitialAdapter | None]:
    """Find out what a run starts from.

    Args:
        config: Configuration of the run.
        say: Function that shows a line to the user.

    Returns:
        The configuration, in which sizes follow the adapter that the run starts from or was started
        from; the checkpoint to go on from, or None; the adapter to start from, or None.

    Raises:
        SgfluxError: on a folder in use, a bad file, another family, or settings that contradict it.
    """
    # Which folder is used does not depend on what the adapter is.
    folder = RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode)
    path, init_from = folder.resume_path(config.start.resume), config.start.init_from
    sizes = sizes_of(config.adapter, config.encoder, config.conditions)
    if path is not None:
        state = TrainingState.load(path)
        expect_family(state.adapter.get("base"), family_of(config.model), what=f"{path}: the run")
        if init_from is not None:
            config = _adopting(config, as_started(state, sizes))
        return config, Resumed(state, path), None
    if init_from is None:
        return config, None, None
    initial = read_initial(init_from, model=config.model)
    changes, lines = adopted(
        initial,
        sizes,
        kind=config.encoder.kind,
        predicts_layout=config.losses.layout.lambda_layout > 0,
        vocabulary=None if config.encoder.kind == "native" else cgip_vocabulary(config.encoder),
    )
    for line in lines:
        say(line)
    return _adopting(config, changes), None, initial


def _adopting(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The configuration with what an adapter says itself, which can now be checked as a whole."""
    config = config.changed(**changes)
    with located(f"init_from: {config.start.init_from}"):
        config.check_boxes()
    return config
