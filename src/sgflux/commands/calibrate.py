"""``sgflux eval calibrate``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgflux.commands.command import Command
from sgflux.errors import SgfluxError
from sgflux.settings.compute import Device
from sgflux.settings.flat import Group, Input
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.shared import ImagesDir, OutputFile
from sgflux.terminal.quiet import hide_loading_bars


@dataclass(frozen=True, kw_only=True)
class CalibrateFlags:
    """Flags of ``sgflux eval calibrate``."""

    judge: str
    """Judge to measure, or several with commas between, as 'sgflux eval' takes them."""
    data: Input[tuple[Path, ...]]
    """Files of pictures that are known: a JSONL file of sgflux, of VSR or of photographs with boxes
    and statements, or V-COCO's file and COCO's instances_*.json (docs/judges.md)."""
    output: OutputFile
    """JSON file of the figures, which 'sgflux eval' takes as its calibration."""
    images_dir: ImagesDir = None
    boxes: Literal["detected", "annotated"] = "detected"
    """Boxes that judge 'geometry' compares and judge 'vqa' marks: 'detected' ones are a detector's,
    'annotated' ones are the data's and measure the judge without a detector's errors."""
    predicates: tuple[str, ...] = ()
    """Predicates of the overall figures of statements that people judged. By default they are the
    six positions of docs/judges.md. Every predicate has figures of its own besides."""
    device: Device = "auto"
    seed: int = 0
    """Random seed of the false statements that the judge is asked about."""
    judges: Group[JudgeSettings] = field(default_factory=JudgeSettings)
    """Judges."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if self.boxes == "annotated" and self.judges.detector is not None:
            raise SgfluxError(
                "detector has no effect with boxes 'annotated'; leave one of them out"
            )


def run(command: Command, arguments: Sequence[str]) -> int:
    """Measure a judge and write its calibration file."""
    flags = command.parse(CalibrateFlags, arguments)
    command.expect_files(flags.data)
    from sgflux.evaluation.known.calibrating import calibrate_judge
    from sgflux.evaluation.known.table import print_calibration

    hide_loading_bars()
    content = calibrate_judge(
        flags.judge,
        flags.data,
        output=flags.output,
        settings=flags.judges,
        images_dir=flags.images_dir,
        annotated_boxes=flags.boxes == "annotated",
        predicates=flags.predicates,
        device=flags.device,
        seed=flags.seed,
        command=["sgflux", *command.words, *arguments],
        show_progress=sys.stderr.isatty(),
    )
    print_calibration(content)
    print(f"calibration: {flags.output}")
    return 0


COMMAND = Command(
    words=("eval", "calibrate"),
    purpose="Measure a judge on pictures whose relations are known",
    example="sgflux eval calibrate --judge geometry "
    "--detector google/owlv2-base-patch16-ensemble "
    "--data photos/annotations.jsonl --output calibration.json",
    run=run,
)
