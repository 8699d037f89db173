"""How a program ends: its exit status, and one line about what was wrong with the input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from sgflux.errors import SgfluxError

BAD_INPUT = 2
INTERRUPTED = 130


def exit_status(run: Callable[[], int]) -> int:
    """Run a program and say in one line on standard error what is wrong with its input.

    Args:
        run: the program; returns its status: 0 for done, 1 for a check that found problems, 130 or
            143 for a training that saved and stopped at a signal.

    Returns:
        What ``run`` returns, 2 on bad input, or 130 after an interruption. Anything else that
        ``run`` raises is a defect of sgflux and keeps its traceback.
    """
    # transformers warns at import about image processors that nothing here uses.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return run()
    except SgfluxError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
