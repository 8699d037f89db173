"""The time that the training steps of a run take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Time spent training, without validations and checkpoints."""

    def __init__(self) -> None:
        """Start at 0."""
        self._start = time.perf_counter()

    def restart(self) -> float:
        """Seconds since the last restart, without pauses; starts again from 0."""
        now = time.perf_counter()
        elapsed = now - self._start
        self._start = now
        return max(elapsed, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time within."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - before
