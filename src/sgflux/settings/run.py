"""The folder of a run, its random seed, and what it writes how often."""

from __future__ import annotations

from typing import Literal, get_args

from sgflux.settings.checks import Count, Whole, expect, expect_defaults, settings
from sgflux.settings.model import expect_seeds
from sgflux.settings.shared import OutputDir

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
TRACKER_NAMES: tuple[TrackerName, ...] = get_args(TrackerName)
NO_TRACKER = "none"
"""What ``log_with`` says where no tracker is to be used."""


@settings
class RunSettings:
    """The folder of a run, its random seed, and what it writes how often."""

    output_dir: OutputDir
    """Folder of the run, with checkpoints, logs and the finished adapter. It must be new or
    empty."""
    seed: Whole = 0
    """Random seed of the run."""
    log_every: Count = 10
    """Number of steps between two lines of metrics."""
    save_every: Whole = 500
    """Number of steps between two checkpoints to resume from; 0 saves one only after the last
    step."""
    keep_checkpoints: Whole = 3
    """Number of latest checkpoints that are kept; 0 keeps all."""
    sample_steps: Whole = 4
    """Number of denoising steps of the picture that is drawn with the finished adapter, and of
    those of --sample-graphs; 0 draws none."""
    log_with: str = "tensorboard"
    """Trackers that get the figures of metrics.jsonl, with commas between them: 'tensorboard'
    (files in --output-dir), 'wandb', 'trackio', 'mlflow', or 'none'. All but the first need a
    package of that name."""
    tracker_project: str = "sgflux"
    """Project of wandb and trackio, or experiment of mlflow, that the run is put into under the
    name of its folder."""
    dry_run: bool = False
    """Check the run without loading weights or encoding: the base's files by their headers,
    tokenizers, pictures, boxes, every word, the training adapter, and room on the disk. It prints
    what was checked and what was not, the settings and the plan, and writes nothing."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        expect_seeds(self.seed, 1)
        if self.save_every == 0:
            expect_defaults(self, "with save_every 0", "keep_checkpoints")
        names = self.trackers
        expect(
            set(names) <= set(TRACKER_NAMES) and len(set(names)) == len(names),
            "log_with",
            self.log_with,
            f"be {NO_TRACKER!r} or different ones of {list(TRACKER_NAMES)} with commas between",
        )
        if not set(names) - {"tensorboard"}:
            expect_defaults(self, f"with log_with {self.log_with!r}", "tracker_project")

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names of the trackers that ``log_with`` says."""
        if self.log_with == NO_TRACKER:
            return ()
        return tuple(name.strip() for name in self.log_with.split(","))
