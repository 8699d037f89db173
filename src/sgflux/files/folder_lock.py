"""Locks of folders: one process writes into a folder, and a second one is refused with its name.

Two files whose names start with a dot stand in the folder while a command writes there, or beside
it where the folder itself is put in place at once:

    .sgflux.lock        locked by the operating system (the library filelock), so that it is free
                        as soon as its process has ended, however that came about
    .sgflux.lock.json   the holder: process, host, command and times, for people and for file
                        systems whose locks another machine does not see

Both are removed at the end. What a killed process left is taken over, and that is said.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import msgspec
import psutil

from sgflux.errors import SgfluxError
from sgflux.files.leftovers import sweep
from sgflux.files.writing import make_folder, write_error

_NAME = "sgflux"
_ENDINGS = (".lock", ".lock.json")
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What a file system answers that has no locks; the holder's file alone protects there."""
_CLOCK_SECONDS = 2.0
"""A start time may be read this differently when the clock was set in between."""
_CACHE_SECONDS = 86_400.0
"""Age of a half-written file in a cache that nobody will finish."""
_LARGEST = 65_536
"""Bytes of a holder's file that are read at most."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that writes into a folder.

    Attributes:
        command: Command that the holder runs, like "sgflux train".
        process: Process id of the holder.
        host: Name of the holder's machine.
        process_started: Time at which that process began, seconds since 1970; None if unknown.
        since: Local time at which it took the folder.
        arguments: Whole command line.
    """

    command: str
    process: int
    host: str
    process_started: float | None
    since: str
    arguments: str = ""

    def __str__(self) -> str:
        """Name the holder as messages do."""
        return f"`{self.command}` (process {self.process} on {self.host}, since {self.since})"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether that very process, and no later one with its number, runs on this machine."""
        try:
            started = psutil.Process(self.process).create_time()
        except psutil.AccessDenied:
            return True
        except (psutil.Error, OSError, ValueError, OverflowError):
            return False
        known = self.process_started
        return known is None or abs(started - known) <= _CLOCK_SECONDS


_held: dict[Path, int] = {}
"""Lock file -> the thread of this process that holds it."""


@contextmanager
def hold_folder(
    folder: str | os.PathLike[str],
    *,
    command: str,
    beside: bool = False,
    part: str = "",
    say: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Exclude other writers from a folder (or a file) until the block ends.

    The thread that holds a folder may hold it again in an inner block.

    Args:
        folder: Path of the folder, made if it is missing; one that was made here and stayed empty
            is removed again. With ``beside`` it may also be a file.
        command: Command that a refused process is told of, like "sgflux train".
        beside: Keep the lock beside ``folder`` and do not make the folder, which is put in place
            whole.
        part: Part of the folder that is written, if others may write other parts of it.
        say: Function that shows lines to the user; None: standard error.

    Raises:
        SgfluxError: if somebody else holds it, or the folder cannot be written.
    """
    shown = os.fspath(folder)
    lock = _lock_file(Path(folder), beside=beside, part=part)
    if _held.get(lock) == threading.get_ident():
        yield
        return
    made: list[Path] = []
    system_lock = _take(lock, shown, made=made)
    try:
        _check_holder(lock, shown, say=say or _say)
        _write_holder(lock, command)
        _held[lock] = threading.get_ident()
        try:
            _sweep(Path(folder), beside=beside, part=part, say=say or _say)
            yield
        finally:
            del _held[lock]
            with contextlib.suppress(OSError):
                _holder_file(lock).unlink()
            # Before it is released: whoever waits for the file then finds that its name is gone.
            with contextlib.suppress(OSError):
                lock.unlink()
    finally:
        if system_lock is not None:
            system_lock.release()
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _sweep(folder: Path, *, beside: bool, part: str, say: Callable[[str], None]) -> None:
    """Remove unfinished files of killed processes from a folder that is held now."""
    if part:
        return  # other parts have other writers
    is_cache = any(folder.glob("shard-*.json"))
    # Runs that encode fill a cache without holding it, in files of a minute at most.
    age = _CACHE_SECONDS if is_cache else 0.0
    found = sweep(folder.parent, only=folder.name) if beside else sweep(folder, older_than=age)
    for line in found:
        say(line)


def check_not_held(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that somebody holds, and write nothing.

    Raises:
        SgfluxError: as :func:`hold_folder`.
    """
    lock = _lock_file(Path(folder), beside=False, part="")
    holder = _read_holder(lock)
    mine = _held.get(lock) == threading.get_ident()
    if holder is not None and not mine and (not holder.is_here or holder.is_alive):
        raise _refusal(os.fspath(folder), holder, lock)


def is_lock_file(path: Path) -> bool:
    """Whether a file belongs to a lock; a folder with nothing else counts as empty."""
    return f".{_NAME}." in path.name and path.name.startswith(".") and path.name.endswith(_ENDINGS)


def is_empty_folder(folder: Path) -> bool:
    """Whether a folder is there and holds nothing but its lock."""
    return folder.is_dir() and all(is_lock_file(entry) for entry in folder.iterdir())


def _lock_file(folder: Path, *, beside: bool, part: str) -> Path:
    folder = folder.absolute()
    # A link to a folder and the folder itself have one lock.
    with contextlib.suppress(OSError, RuntimeError):
        folder = folder.resolve()
    middle = f"{_NAME}.{part}" if part else _NAME
    if beside and folder.name:
        return folder.parent / f".{folder.name}.{middle}.lock"
    return folder / f".{middle}.lock"


def _holder_file(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")


def _take(lock: Path, shown: str, *, made: list[Path]) -> filelock.BaseFileLock | None:
    """Return the system's lock, or None on a file system without locks."""
    for _ in range(20):  # another process may remove the folder or the file at the same moment
        _make(lock.parent, made=made)
        taken = filelock.FileLock(lock)
        try:
            taken.acquire(timeout=0)
            return taken
        except filelock.Timeout:
            holder = _read_holder(lock)
            if holder is not None:
                raise _refusal(shown, holder, lock) from None
            time.sleep(0.1)  # it is about to write its name, or to go
        except FileNotFoundError:
            continue
        except PermissionError as error:
            # The remains of another user's run: the name goes if nobody is behind it.
            _check_holder(lock, shown, say=_say, remove=False)
            try:
                lock.unlink()
            except OSError:
                raise SgfluxError(
                    f"{shown}: the lock {str(lock)!r} cannot be taken "
                    f"({error.strerror or error}); make the folder writable, or give another"
                ) from error
        except NotImplementedError:
            return None
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return None
            raise write_error(lock, error) from error
    if not lock.exists():
        raise SgfluxError(
            f"{shown}: cannot be written: no file can be made in {str(lock.parent)!r}; "
            "give another folder"
        )
    raise _refusal(shown, None, lock)


def _make(folder: Path, *, made: list[Path]) -> None:
    missing = []
    at = folder
    while not at.exists() and at != at.parent:
        missing.append(at)
        at = at.parent
    make_folder(folder)
    made.extend(path for path in missing if path not in made)


def _read_holder(lock: Path) -> Holder | None:
    """Return the holder on file; None if there is none, or the file cannot be read."""
    try:
        with _holder_file(lock).open("rb") as file:
            return msgspec.json.decode(file.read(_LARGEST), type=Holder)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _check_holder(
    lock: Path, shown: str, *, say: Callable[[str], None], remove: bool = True
) -> None:
    """Refuse a holder that may still be there; take over from one that is not."""
    file = _holder_file(lock)
    holder = _read_holder(lock)
    if holder is not None and (not holder.is_here or holder.is_alive):
        raise _refusal(shown, holder, lock)
    if not remove or not file.exists():
        return
    gone = "an unknown process" if holder is None else str(holder)
    say(f"{shown}: took over the lock of {gone}, which no longer runs")
    try:
        file.unlink()
    except OSError as error:
        raise SgfluxError(
            f"{shown}: the stale lock {str(file)!r} cannot be removed "
            f"({error.strerror or error}); make the folder writable, or give another"
        ) from error


def _refusal(shown: str, holder: Holder | None, lock: Path) -> SgfluxError:
    if holder is None:
        return SgfluxError(
            f"{shown} is being written by another process; wait for its end, or give another folder"
        )
    way_out = "wait for its end, or give another folder"
    if holder.process == os.getpid() and holder.is_here:
        way_out = "it is this very process, in another thread or an unfinished call"
    elif not holder.is_here:
        way_out += (
            f". Whether it still runs cannot be seen from {socket.gethostname()}: if it does not, "
            f"delete {str(_holder_file(lock))!r}"
        )
    return SgfluxError(f"{shown} is being written by {holder}; {way_out}")


def _write_holder(lock: Path, command: str) -> None:
    started: float | None = None
    with contextlib.suppress(psutil.Error, OSError):
        started = psutil.Process().create_time()
    holder = Holder(
        command=command,
        process=os.getpid(),
        host=socket.gethostname(),
        process_started=started,
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        arguments=shlex.join(sys.argv),
    )
    # Exclusively: where the system has no locks, this is what keeps a second writer out.
    file = _holder_file(lock)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(msgspec.structs.asdict(holder), indent=2) + "\n")
    except FileExistsError:
        raise _refusal(str(lock.parent), _read_holder(lock), lock) from None
    except OSError as error:
        raise write_error(file, error) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
