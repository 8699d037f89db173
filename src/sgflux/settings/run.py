"""The folder of a run, its random seed, and what it writes how often."""

from __future__ import annotations

from dataclasses import dataclass

from sgflux.settings.checks import expect_defaults, expect_least, typed_fields
from sgflux.settings.shared import OutputDir


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The folder of a run, its random seed, and what it writes how often."""

    output_dir: OutputDir
    """Folder of the run, with checkpoints, logs and the finished adapter. It must be new or
    empty."""
    seed: int = 0
    """Random seed of the run."""
    log_every: int = 10
    """Number of steps between two lines of metrics."""
    save_every: int = 500
    """Number of steps between two checkpoints to resume from; 0 saves one only after the last
    step."""
    keep_checkpoints: int = 3
    """Number of latest checkpoints that are kept; 0 keeps all."""
    sample_steps: int = 4
    """Number of denoising steps of the picture that is drawn with the finished adapter; 0 draws
    none."""
    dry_run: bool = False
    """Check the run without loading weights or encoding: the base's files by their headers,
    tokenizers, pictures, boxes, every word, the training adapter, and room on the disk. It prints
    what was checked and what was not, the settings and the plan, and writes nothing."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "log_every")
        expect_least(self, 0, "seed", "save_every", "keep_checkpoints", "sample_steps")
        if self.save_every == 0:
            expect_defaults(self, "with save_every 0", "keep_checkpoints")
