"""Locks by which several processes share the units of one folder; a lock ends with its process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Try to lock a folder; yields whether this process holds the lock."""
    with _lock_file(folder).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Lock a folder, once other processes have released it."""
    with _lock_file(folder).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path) -> Path:
    """Path of the lock; it lies beside the folder, which may be replaced as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")
