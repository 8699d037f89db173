"""The first signal is a request, an echo of it is nothing, a later one is obeyed.

If one of these failed, a signal would end a run without a checkpoint, or could not end it at all.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sgflux.training.processes import interruption
from sgflux.training.processes.interruption import StopRequest


def test_the_first_signal_is_noted_and_its_echo_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_later_signal_has_its_usual_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_ECHO_SECONDS", -1.0)
    # A shell starts background jobs with SIGINT ignored, and then that is its usual effect.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_it_does_nothing() -> None:
    entered = []

    def enter() -> None:
        with StopRequest() as stop:
            entered.append(stop.signal)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [None]
