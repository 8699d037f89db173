"""Writing of files, whole or not at all, with one line about a full disk.

Everything that sgflux writes goes through here: a single file through :func:`replacing` or
:func:`replace_file`, a folder through :func:`unfinished_folder`, a library's own writer through
:func:`naming_disk_errors`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from sgflux.errors import SgfluxError

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the system allows no file that large here (see `ulimit -f`)",
}
"""Error numbers of a file that found no room -> what they mean."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, states an error number."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class WriteError(SgfluxError):
    """A file that could not be written; the message says which, why, and how much room it needs.

    Attributes:
        needed: Number of bytes that the file needs at least; 0 if that is not known.
    """

    needed = 0


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, size: int | None = None, durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    If the block raises, ``path`` is as it was and the temporary file is gone. The folder of
    ``path`` must exist.

    Args:
        path: Path of the file.
        size: Number of bytes that will be written, for the message of a full disk; None: unknown.
        durable: Force the bytes to the disk before the name is there, so that a power failure
            leaves no half-written file under it either.

    Raises:
        WriteError: if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    watched: _Watched | None = None
    try:
        with temporary.open("xb") as file:
            watched = _Watched(file)
            yield cast(BinaryIO, watched)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch reports a failed write as an error of its own, which does not name the cause.
        cause: BaseException | None = watched.error if watched is not None else None
        if cause is None and isinstance(error, OSError) and _is_write(error, path):
            cause = error
        if isinstance(cause, OSError):
            least = 0 if watched is None else watched.written
            raise write_error(path, cause, needed=max(size or 0, least)) from error
        raise


def replace_file(
    path: str | os.PathLike[str], content: bytes | str, *, durable: bool = True
) -> None:
    """Write a file, all of it or nothing; its folder is made if need be.

    Args:
        path: Path of the file; one that is there is replaced.
        content: Bytes, or a text that is written as UTF-8.
        durable: Whether the bytes are flushed to the disk, see :func:`replacing`.

    Raises:
        WriteError: if it cannot be written.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    make_folder(path.parent)
    with replacing(path, size=len(data), durable=durable) as file:
        file.write(data)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, unless it is there.

    Raises:
        WriteError: if that is not possible; the message names the folder.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise WriteError(f"{folder} is no folder; give another one") from error
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


@contextmanager
def naming_disk_errors(path: str | os.PathLike[str], *, size: int | None = None) -> Iterator[None]:
    """Turn errors of a block that writes a file into :class:`WriteError`.

    It belongs around the block that removes what was half written, so that the free bytes that the
    message states are those without it.

    Args:
        path: File or folder that is being written.
        size: Number of bytes that it needs; None: unknown.

    Raises:
        WriteError: in place of an ``OSError`` of a write, or of a library's error that hides one.
    """
    try:
        yield
    except Exception as error:
        cause = disk_error(error)
        if cause is None and isinstance(error, OSError) and _is_write(error, Path(path)):
            cause = error
        if cause is None:
            raise
        inner = error.needed if isinstance(error, WriteError) else 0
        raise write_error(path, cause, needed=size or inner) from error


@contextmanager
def unfinished_folder(target: str | os.PathLike[str], *, size: int | None = None) -> Iterator[Path]:
    """Make a hidden folder for a block that fills it and then puts it in a folder's place.

    What is left of it at the end is removed, so that a block that raises leaves nothing behind.

    Args:
        target: Folder in whose place it will be put; the folder above it is made if need be.
        size: Number of bytes that will be written; None: unknown.

    Raises:
        WriteError: if it cannot be written.
    """
    target = Path(target)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    with naming_disk_errors(target, size=size):
        try:
            temporary.mkdir()
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def disk_error(error: BaseException) -> OSError | None:
    """Find the error of a full disk in an exception, its causes and its text; None without one."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        if isinstance(current, OSError) and current.errno in _NO_ROOM:
            return current
        found = _OS_ERROR.search(str(current))
        if found is not None and int(found[1]) in _NO_ROOM:
            return OSError(int(found[1]), os.strerror(int(found[1])))
        current = current.__cause__ or current.__context__
    return None


def write_error(
    path: str | os.PathLike[str], error: OSError, *, needed: int | None = None
) -> WriteError:
    """Return one line about a file that cannot be written: what, why, how much room there is.

    Args:
        path: Path of the file or folder.
        error: The system's error.
        needed: Number of bytes that it needs at least; 0 or None if that is not known.
    """
    number = error.errno
    reason = _NO_ROOM.get(number, error.strerror or str(error)) if number else str(error)
    line = f"{os.fspath(path)}: cannot be written: {reason}"
    if number in (errno.ENOSPC, errno.EDQUOT):
        if (free := free_bytes(path)) is not None:
            line += f", {readable_size(free)} are free"
            if needed and needed > free:
                line += (
                    f" and {readable_size(needed)} are needed, {readable_size(needed - free)} "
                    "are missing"
                )
        line += "; free some, or give a folder on another disk"
    elif number == errno.EFBIG and needed:
        line += f", and {readable_size(needed)} are needed"
    result = WriteError(line)
    result.needed = needed or 0
    return result


def expect_room(path: str | os.PathLike[str], needed: int, what: str) -> None:
    """Check that a disk has room, before the work that ends in writing.

    Args:
        path: File or folder that will be written.
        needed: Number of bytes that will be written.
        what: Description of what is written, for the message.

    Raises:
        WriteError: if the disk has less.
    """
    free = free_bytes(path)
    if free is not None and needed > free:
        raise WriteError(
            f"{os.fspath(path)}: {what} take about {readable_size(needed)}, but its disk has "
            f"{readable_size(free)} free, {readable_size(needed - free)} are missing: free some, "
            "or give a folder on another disk"
        )


def free_bytes(path: str | os.PathLike[str]) -> int | None:
    """Return the free bytes of the disk that a path is on, or would be on; None if unknown."""
    for folder in (Path(path), *Path(path).absolute().parents):
        if folder.is_dir():
            try:
                return shutil.disk_usage(folder).free
            except OSError:
                return None
    return None


def readable_size(size: int) -> str:
    """Return a number of bytes for a person: "12 bytes", "3.2 MB"."""
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{size} bytes" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


class _Watched:
    """A binary file that remembers the first error of a write; all else is the file's own."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.error: OSError | None = None
        self.written = 0

    def write(self, data: bytes) -> int:
        """Write, as the file does."""
        written: int = self._noting(lambda: self._file.write(data), adds=memoryview(data).nbytes)
        return written

    def flush(self) -> None:
        """Flush, as the file does."""
        self._noting(self._file.flush)

    def _noting(self, act: Callable[[], Any], *, adds: int = 0) -> Any:
        self.written += adds
        try:
            return act()
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _is_write(error: OSError, target: Path) -> bool:
    """Whether an error is about the target, or the hidden folder beside it that will replace it."""
    if error.filename is None:
        return True
    path = Path(os.fsdecode(error.filename)).absolute()
    return path.is_relative_to(target.absolute()) or any(
        part.parent == target.absolute().parent and part.name.startswith(f".{target.name}.")
        for part in (path, *path.parents)
    )
