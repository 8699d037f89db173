"""Removal of unfinished files and folders that killed processes left.

Everything that sgflux puts in place whole is first written under a hidden name beside its place:

    .NAME.{32 hex digits}.tmp       a file or folder that was not finished
    .NAME.partial-{32 hex digits}   a data set that was not finished
    .NAME.{32 hex digits}.old       a folder that was about to be replaced

The process that holds the lock of a place (:mod:`sgflux.files.folder_lock`) is the only writer
there, so every such file or folder is left over: it is removed, and named. An ``.old`` folder whose
successor never came is put back instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sgflux.files.writing import readable_size

_NAME = re.compile(
    r"\.(?P<name>.+)\.(?:(?P<hex>[0-9a-f]{32})\.(?P<kind>tmp|old)|partial-[0-9a-f]{32})"
)
_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux


def sweep(folder: Path, *, older_than: float = 0.0, only: str | None = None) -> list[str]:
    """Remove unfinished files and folders in a folder that the caller holds.

    Args:
        folder: Folder whose direct entries are looked at.
        older_than: Seconds since the last change; a younger file may belong to a running process.
        only: Name of the one file or folder that the caller holds; None: it holds all of them.

    Returns:
        What was done, a line each.
    """
    lines = []
    for path, name in _left_in(folder):
        target = path.with_name(name)
        with contextlib.suppress(OSError):
            is_young = time.time() - path.lstat().st_mtime < older_than
            if is_young or only not in (None, name):
                continue
            if path.suffix == ".old" and not target.exists():
                path.rename(target)
                lines.append(f"{target}: put back, since what was to replace it was not finished")
                continue
            size = _size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            lines.append(
                f"{path}: removed ({readable_size(size)}), a killed process had left it unfinished"
            )
    return lines


def outdated(target: Path) -> Path | None:
    """Return the folder that ``target`` was about to replace, if that is all there is of it."""
    if target.exists():
        return None
    found = [
        path
        for path, name in _left_in(target.parent)
        if name == target.name and path.suffix == ".old"
    ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def replace_folder(temporary: Path, target: Path) -> None:
    """Put a folder in another one's place, which is removed; ``target`` need not exist.

    Where the system can exchange two names at once (Linux, on most file systems), there is no
    moment without a folder under the name. Elsewhere the old folder stands beside it as ``.old``
    for that moment; :func:`outdated` and :func:`sweep` find it there.
    """
    if not target.exists():
        temporary.rename(target)
        return
    if _exchange(temporary, target):
        shutil.rmtree(temporary, ignore_errors=True)
        return
    old = temporary.with_suffix(".old")
    target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether two names were exchanged, in one step."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    first, second = (ctypes.c_char_p(os.fsencode(path)) for path in (one, other))
    return bool(rename(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_EXCHANGE)) == 0)


def _left_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield (path, intended name) of every unfinished file or folder in a folder."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        match = _NAME.fullmatch(path.name)
        if match is not None:
            yield path, match["name"]


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file())
