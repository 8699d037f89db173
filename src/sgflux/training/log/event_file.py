"""TensorBoard's event file, written at once and by the thread that has something to say.

TensorBoard's own writer hands events to a thread of its own, which prints a traceback when the disk
is full, up to two minutes after the fact.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import image, scalar

from sgflux.files.writing import make_folder, naming_disk_errors

_VERSION = "brain.Event:2"


class EventFile:
    """One file of scalars and pictures in a folder that TensorBoard reads."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        """Start a file.

        Args:
            folder: Folder of the file, made if it is missing.
            purge_step: TensorBoard forgets what older files say of this step and later ones; None:
                of none.

        Raises:
            WriteError: if it cannot be written.
        """
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        self._path = make_folder(folder) / name
        with naming_disk_errors(self._path):
            self._file = self._path.open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=now, file_version=_VERSION))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=now, step=purge_step, session_log=start))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number.

        Raises:
            WriteError: if it cannot be written.
        """
        summary: Any = scalar(name, value)
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a picture, (H, W, 3) uint8.

        Raises:
            WriteError: if it cannot be written.
        """
        summary: Any = image(name, picture, dataformats="HWC")
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        with naming_disk_errors(self._path):
            self._records.write(event.SerializeToString())
