"""Text for display: control characters of data spelt out, and numbers with their nouns."""

from __future__ import annotations

import unicodedata

_LAYOUT = "\n\t"
_HARMFUL = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of surrogate pairs, and separators that break lines or paragraphs."""

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What changes the direction of the text around it."""


def printable(text: str) -> str:
    r"""Return ``text`` with its control characters as escapes, line ends and tabs excepted.

    A predicate such as ``\x1b]0;title\x07`` from a data set must not set a terminal's title.
    """
    if text.isprintable():
        return text
    return "".join(
        repr(mark)[1:-1]
        if mark in _DIRECTIONS or (unicodedata.category(mark) in _HARMFUL and mark not in _LAYOUT)
        else mark
        for mark in text
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, "1 picture" or "2 pictures"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
