"""Control characters of data never reach a terminal.

If one of these failed, a predicate of a data set could change the title or colours of a terminal.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgflux.errors import SgfluxError
from sgflux.terminal.endings import exit_status
from sgflux.terminal.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("man, riding, horse\n\tÄ \u732b", "man, riding, horse\n\tÄ \u732b"),
        ("\x1b]0;owned\x07\x1b[31mX", r"\x1b]0;owned\x07\x1b[31mX"),
        ("a\rb\x7f\x85\u2028\u2029", r"a\rb\x7f\x85\u2028\u2029"),
        ("\u202egpj.exe\ud800", r"\u202egpj.exe\ud800"),
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_harmful_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(
        unicodedata.category(mark) in {"Cc", "Cs", "Zl", "Zp"}
        for mark in shown
        if mark not in "\n\t"
    )
    if text.isprintable():
        assert shown == text


def test_an_error_about_such_data_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise SgfluxError("unknown predicate \x1b[31mX")

    assert exit_status(run) == 2
    assert capsys.readouterr().err == "error: unknown predicate \\x1b[31mX\n"
