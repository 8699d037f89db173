"""Keeping libraries from talking in the middle of a run's log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_errors(*names: str) -> Iterator[None]:
    """Let loggers of these names say errors only, as long as the block runs."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def hide_loading_bars(*, on_a_terminal: bool = False) -> None:
    """Hide the bar of every part of a model that is loaded: bars have no place in a log file.

    Args:
        on_a_terminal: hide them there, too.
    """
    if sys.stderr.isatty() and not on_a_terminal:
        return
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
