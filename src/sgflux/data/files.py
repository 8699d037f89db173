"""Pictures are named by paths below their folder, and are ordinary files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from sgflux.errors import SgfluxError


class UnreadableFileError(SgfluxError):
    """A file that cannot be opened: missing, forbidden, no ordinary file, or no path at all."""


def resolve_path(relative: str, images_dir: str | os.PathLike[str]) -> Path:
    """Return where a picture is, symbolic links followed.

    What a row says stays below ``images_dir``: an absolute path and ``..`` are refused. A link that
    the user has put there (a folder on another disk, a cache's links to its files) may lead
    anywhere. The picture itself need not exist.

    Raises:
        UnreadableFileError: if ``images_dir`` is no folder, or the path is absolute, has a ``..``,
            or names no file below the folder.
    """
    where = f"image_rel_path {relative!r}"
    try:
        root = Path(images_dir).resolve()
        if not root.is_dir():
            raise UnreadableFileError(f"the images folder {os.fspath(images_dir)!r} is no folder")
        parts = Path(relative).parts
        # A path of Windows is one name here, and what it says there.
        windows = {part for name in parts for part in name.split("\\")}
        if Path(relative).is_absolute() or ".." in windows or not parts:
            raise UnreadableFileError(
                f"{where} must be a path below the images folder {os.fspath(images_dir)!r}, "
                "without '..'"
            )
        found = (root / relative).resolve()
        if found.is_symlink():  # from Python 3.13 on, resolve() says nothing of a circle
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(found))
        return found
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, SgfluxError):
            raise
        raise UnreadableFileError(f"{where} is no usable path: {error}") from error


def expect_file(path: str | os.PathLike[str], *, what: str = "the picture") -> os.stat_result:
    """Check that a path is an ordinary file: opening a pipe would wait for ever.

    Args:
        path: The file; links are followed.
        what: Name of the file in an error.

    Raises:
        UnreadableFileError: naming it, if it is anything else or cannot be looked at.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(f"{what} {os.fspath(path)!r} cannot be read: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"))
        kind = next((name for test, name in kinds if test(found.st_mode)), "a device or socket")
        raise UnreadableFileError(
            f"{what} {os.fspath(path)!r} cannot be read: it is {kind}, no file"
        )
    return found
