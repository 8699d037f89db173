"""A training run as its own files tell it, read again and again while it grows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

from sgflux.errors import SgfluxError
from sgflux.files.json_files import checked, typed
from sgflux.files.reading import naming_unreadable

# As sgflux.training has them; its modules import torch, for which the page does not wait.
METRICS_FILE, LOG_FILE, SAMPLES_FOLDER = "metrics.jsonl", "training.log", "samples"

_PROGRESS = re.compile(
    r"step (?P<step>\d+)/(?P<steps>\d+)\s.*?(?:\s\s(?P<left>\S+(?: \S+)*) left)?$"
)
_WAY_OUT = "take the damaged line out of the file"
_LAST_LINES = 12
_TAIL = 64 * 1024  # bytes of the log that are looked at


class _Row(Struct):
    """What every row of the metrics has."""

    kind: str
    step: int


@dataclass
class RunFiles:
    """What was read of a run's folder so far.

    Attributes:
        folder: Folder of the run.
        train: Step and figures of each line of training metrics.
        validation: Step and figures of each validation.
        log: Last lines of the log.
        step: Number of steps that are done, as the log says it.
        steps: Number of steps of the whole run; None: nobody has said it.
        left: Time that is left, in words; None: nobody has said it.
        sheets: Pictures that were drawn during the training, the newest last.
    """

    folder: Path
    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    step: int = 0
    steps: int | None = None
    left: str | None = None
    sheets: list[Path] = field(default_factory=list)
    _offset: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the run says that it is finished."""
        return any(re.search(r"\d finished:", line) for line in self.log)

    def read(self) -> bool:
        """Read what has been written since; returns whether there was anything.

        Raises:
            SgfluxError: if the folder is no run, or a file cannot be read.
        """
        metrics, log = self.folder / METRICS_FILE, self.folder / LOG_FILE
        if not log.is_file():
            raise SgfluxError(
                f"{self.folder} is no training run: it has no {LOG_FILE}; give the --output-dir "
                "of 'sgflux train'"
            )
        before = (self._offset, self.log, self.sheets)
        if metrics.is_file():
            self._read_metrics(metrics)
        self._read_log(log)
        sheets = (self.folder / SAMPLES_FOLDER).glob("step*.png")
        self.sheets = sorted(sheets, key=lambda path: (len(path.name), path.name))
        return before != (self._offset, self.log, self.sheets)

    def _read_metrics(self, path: Path) -> None:
        with naming_unreadable(path), path.open("rb") as file:
            if path.stat().st_size < self._offset:  # a resumed run has dropped later rows
                self._offset = 0
                self.train.clear()
                self.validation.clear()
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        new = [typed(line, dict, where=str(path), way_out=_WAY_OUT) for line in whole.splitlines()]
        for row in new:
            checked(row, _Row, where=str(path), way_out=_WAY_OUT)
        # Only now: rows behind a damaged one are read again once it is mended.
        self._offset += len(whole)
        for row in new:
            rows = {"train": self.train, "validation": self.validation}.get(row["kind"])
            if rows is not None:
                rows.append(row)

    def _read_log(self, path: Path) -> None:
        with naming_unreadable(path), path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        self.log = lines[-_LAST_LINES:]
        for line in reversed(lines):
            said = _PROGRESS.search(line)
            if said is not None:
                self.step, self.steps = int(said["step"]), int(said["steps"])
                self.left = said["left"]
                return

    def figures(self, kind: str) -> list[str]:
        """Return the names of the numbers in the rows of ``train`` or ``validation``."""
        rows = self.train if kind == "train" else self.validation
        names: dict[str, None] = {}
        for row in rows[:1] + rows[-1:]:
            names.update(dict.fromkeys(n for n, value in row.items() if _is_number(value)))
        return [name for name in names if name != "step"]

    def last(self, kind: str, name: str) -> float | None:
        """Return a figure of the last row of ``train`` or ``validation``; None: it has none."""
        rows = self.train if kind == "train" else self.validation
        value = rows[-1].get(name) if rows else None
        return value if _is_number(value) else None

    def series(self, kind: str, name: str) -> list[tuple[int, float]]:
        """Return (step, figure) of every row that has the figure."""
        rows = self.train if kind == "train" else self.validation
        return [(row["step"], row[name]) for row in rows if _is_number(row.get(name))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
