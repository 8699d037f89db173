"""What the other processes of a run say when one of them is gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from sgflux.errors import SgfluxError, first_line
from sgflux.training.checkpoints.step_files import step_files

_PATIENCE = timedelta(seconds=5)


class LostProcessError(SgfluxError):
    """Another process of the run is gone.

    Attributes:
        is_first: Whether no other process has noticed it before, so that this one should say it.
    """

    def __init__(self, text: str, *, is_first: bool) -> None:
        """Keep the message and whether to show it."""
        super().__init__(text)
        self.is_first = is_first


@contextmanager
def naming_lost_processes(output_dir: Path) -> Iterator[None]:
    """A context in which an error about the connection to another process says what to do.

    SIGTERM is ignored from then on; the launcher ends a process that stays with SIGKILL.

    Args:
        output_dir: Folder of the run, for its last checkpoint.

    Raises:
        LostProcessError: instead of an error of torch's connections.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_about_connections(error):
            raise
        if threading.current_thread() is threading.main_thread():
            # The launcher is about to end this process as well, which has something to say first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        saved = list(step_files(output_dir).values())
        where = f"the last checkpoint is {saved[-1]}" if saved else "no checkpoint was saved yet"
        raise LostProcessError(
            "another process of this run has ended or cannot be reached "
            f"({first_line(error)}); the launcher names the one that failed first. In this run "
            f"{where}. To go on, run the same command with --resume auto, with any number of "
            "processes",
            is_first=_is_first(),
        ) from error


def _is_about_connections(error: RuntimeError) -> bool:
    """Whether an error comes from NCCL or gloo; gloo's has no type of its own."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def _is_first() -> bool:
    """Whether this process is the first to ask, as far as the launcher's store can be reached."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=_PATIENCE,
        )
        return store.add(f"sgflux/lost/{attempt}", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        return True
