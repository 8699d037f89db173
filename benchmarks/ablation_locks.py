"""Several processes in one folder: who works on what. A lock ends with its process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Try to be the only one to work on a folder; yields whether that is so."""
    with _lock_file(folder).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Be the only one to work on a folder, once the others have finished."""
    with _lock_file(folder).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path) -> Path:
    """Beside the folder, which may be replaced as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")
