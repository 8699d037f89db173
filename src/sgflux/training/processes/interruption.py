"""SIGINT and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 3.0


class StopRequest:
    """A context in which the first SIGINT or SIGTERM is noted and does not end the process.

    A signal that comes some seconds later has its usual effect, so that a long step can be ended;
    some seconds, since a terminal and a launcher may both pass on the same Ctrl-C. Outside of the
    main thread Python delivers no signals, and the context does nothing.

    Attributes:
        signal: Signal that came; None before one comes.
    """

    def __init__(self) -> None:
        """Begin without a signal."""
        self.signal: int | None = None
        self._came_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Replace the signals' handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the signals' handlers."""
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            self._came_at = time.monotonic()
        elif time.monotonic() - self._came_at > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)  # on every system; os.kill would end the process on Windows

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)
