"""Exit statuses, and the one line about wrong input with which a program ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from sgflux.errors import SgfluxError
from sgflux.files.writing import disk_error, write_error
from sgflux.terminal.output import take_every_character
from sgflux.terminal.printable import printable

BAD_INPUT = 2
INTERRUPTED = 130
CLOSED_PIPE = 141


def exit_status(run: Callable[[], int]) -> int:
    """Run a program and say in one line on standard error what is wrong with its input.

    Args:
        run: Program, which returns its status: 0 for done, 1 for a check that found problems,
            130 or 143 for a training that saved and stopped at a signal.

    Returns:
        What ``run`` returns, 2 on bad input, or 130 after an interruption. Anything else that
        ``run`` raises is a defect of sgflux and keeps its traceback.
    """
    take_every_character()
    # transformers warns at import about image processors that nothing here uses.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        status = run()
        sys.stdout.flush()  # where it fails at the interpreter's end, nobody could say so
        return status
    except SgfluxError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read standard output has had enough, like `head`.
        _silence_stdout()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # The error of a library's own writer may hide that the disk is full.
        if (full := disk_error(error)) is not None:
            return _say_disk_error(full)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        print(f"error: {printable(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT


def _say_disk_error(full: OSError) -> int:
    """Say in one line that a disk is full; returns the exit status."""
    if full.filename is None:  # standard output, or a file of a library
        text = f"a file cannot be written: {full.strerror}; the disk of standard output, of the "
        text += "folder for temporary files or of a cache is full"
    else:
        text = str(write_error(full.filename, full))
    print(f"error: {text}", file=sys.stderr)
    _silence_stdout()
    return BAD_INPUT


def _silence_stdout() -> None:
    """Redirect standard output to nowhere, so that it does not fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
