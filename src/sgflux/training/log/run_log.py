"""The log of a run: on the screen, in training.log, in metrics.jsonl and for trackers.

Only the main process writes; in the others every method does nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tqdm import tqdm

from sgflux.files.json_files import checked, iter_json_lines
from sgflux.files.writing import naming_disk_errors, replace_file
from sgflux.training.log.event_file import EventFile
from sgflux.training.log.trackers import naming_tracker, show_pictures

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker  # type: ignore[import-untyped]

LOG_FILE = "training.log"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class _Row(msgspec.Struct):
    """What every row of the metrics has."""

    step: int


class RunLog:
    """Writes everything that a run reports.

    Messages from before the output folder is in use are kept and written to its log later, so that
    a run that fails while it reads its data leaves an empty folder behind.
    """

    def __init__(self, *, silent: bool) -> None:
        """Write on standard output, unless ``silent``."""
        self._silent = silent
        self._early: list[str] = []
        self._file: _LineFile | None = None
        self._metrics: _LineFile | None = None
        self._board: EventFile | None = None
        self._trackers: Sequence[GeneralTracker] = ()
        self._bar: tqdm[Any] | None = None

    def open(
        self,
        output_dir: Path,
        *,
        step: int,
        max_steps: int,
        board: bool = True,
    ) -> None:
        """Write into ``output_dir`` from now on, after ``step`` steps of ``max_steps``.

        Rows of later steps are removed from the files: those steps come again.

        Args:
            output_dir: Folder of the run.
            step: Number of steps done.
            max_steps: Number of steps of the run.
            board: Whether TensorBoard's file is written.

        Raises:
            SgfluxError: if one of the files cannot be written.
        """
        if self._silent:
            return
        metrics = output_dir / METRICS_FILE
        drop_later_rows(metrics, step=step)
        # Line by line, so that `tail -f` and a killed run show everything that was said.
        self._file = _LineFile(output_dir / LOG_FILE)
        self._metrics = _LineFile(metrics)
        if board:
            self._board = EventFile(
                output_dir / TENSORBOARD_FOLDER, purge_step=step + 1 if step else None
            )
        for line in self._early:
            self._file.write(line)
        self._early.clear()
        if sys.stderr.isatty():
            self._bar = tqdm(total=max_steps, initial=step, unit="step", dynamic_ncols=True)

    def track(self, trackers: Sequence[GeneralTracker]) -> None:
        """Tell these trackers, which were started, all figures; they are finished in the end."""
        self._trackers = trackers

    def say(self, text: str) -> None:
        """Write a message for the user."""
        if self._silent:
            return
        self._record(text)
        if self._bar is None:
            print(text, flush=True)
        else:
            tqdm.write(text, file=sys.stdout)

    def _record(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        if self._file is None:
            self._early.append(line)
        else:
            self._file.write(line)

    def advance(self, steps: int = 1) -> None:
        """Move the progress bar, where there is one."""
        if self._bar is not None:
            self._bar.update(steps)

    def train(
        self,
        row: Mapping[str, Any],
        *,
        max_steps: int,
        pauses: float = 0.0,
        may_end_early: bool = False,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        """Write one line of training metrics.

        Args:
            row: Figures by name; step, loss, lr and steps_per_second are needed.
            max_steps: Number of steps of the run.
            pauses: Seconds that the validations to come will take.
            may_end_early: Whether the run may end before the last step.
            shown: Name of a further figure -> label with which it is printed, if the row has it.
        """
        if self._silent:
            return
        self._write({"kind": "train", **row})
        seconds = (max_steps - row["step"]) / max(row["steps_per_second"], 1e-9) + pauses
        left = f"{'at most ' if may_end_early else ''}{duration(seconds)} left"
        figures = {"loss": "loss", **(shown or {})}
        said = "  ".join(f"{label} {row[n]:.4f}" for n, label in figures.items() if n in row)
        line = (
            f"step {row['step']}/{max_steps}  {said}  "
            f"lr {row['lr']:.2e}  {row['steps_per_second']:.2f} steps/s  {left}"
        )
        if self._bar is None:
            self.say(line)
        else:  # the bar says the rest
            self._record(line)
            self._bar.set_postfix(loss=f"{row['loss']:.4f}", lr=f"{row['lr']:.1e}", refresh=False)

    def validation(self, row: Mapping[str, Any]) -> None:
        """One line of validation metrics."""
        self._write({"kind": "validation", **row})

    def samples(
        self, row: Mapping[str, Any], *, pictures: Mapping[str, np.ndarray], sheet: Path
    ) -> None:
        """One line of figures of the sample graphs, and their pictures for the trackers.

        Args:
            row: Figures by name; step is needed.
            pictures: Name -> (H, W, 3) uint8.
            sheet: File with all of them.
        """
        self._write({"kind": "samples", **row})
        for name, picture in pictures.items():
            if self._board is not None:
                self._board.add_image(f"samples/{name}", picture, row["step"])
        for tracker in self._trackers:
            with naming_tracker(tracker.name):
                show_pictures(tracker, pictures, sheet=sheet, step=row["step"])

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._metrics is None:
            return
        self._metrics.write(json.dumps(row, allow_nan=False) + "\n")
        numbers = {f"{row['kind']}/{name}": value for name, value in _scalars(row)}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, row["step"])
        for tracker in self._trackers:
            with naming_tracker(tracker.name):
                tracker.log(numbers, step=row["step"])

    def close(self) -> None:
        """Close the files; further messages only go to the screen."""
        if self._bar is not None:
            self._bar.close()
        for stream in (self._file, self._metrics, self._board):
            if stream is not None:
                stream.close()
        self._file = self._metrics = self._board = self._bar = None
        trackers, self._trackers = self._trackers, ()
        for tracker in trackers:
            with naming_tracker(tracker.name):
                tracker.finish()


class _LineFile:
    """A text file that grows by whole lines, each of which is written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with naming_disk_errors(path):
            self._file = path.open("ab", buffering=0)

    def write(self, line: str) -> None:
        with naming_disk_errors(self._path):
            self._file.write(line.encode("utf-8"))

    def close(self) -> None:
        self._file.close()


def drop_later_rows(metrics: Path, *, step: int) -> None:
    """Keep the rows of ``metrics`` up to ``step``; a cut-off last line goes, too."""
    if not metrics.exists():
        return
    way_out = "take that line out of the file, or move the file away"
    kept = []
    for number, row in iter_json_lines(metrics, dict, way_out=way_out, may_be_cut=True):
        checked(row, _Row, where=f"{metrics}:{number}", way_out=way_out)
        if row["step"] <= step:
            kept.append(json.dumps(row, allow_nan=False) + "\n")
    replace_file(metrics, "".join(kept))


def duration(seconds: float) -> str:
    """Seconds as "2 h 05 min", "3 min 20 s" or "41 s"."""
    whole = int(seconds + 0.5)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def _scalars(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row by name; those of its parts as "name/part"."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            for entry in value:
                yield from _scalars(
                    {key: number for key, number in entry.items() if key != "sigma"},
                    f"{prefix}{name}/{entry['sigma']:.3f}/",
                )
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value
