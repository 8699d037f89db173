"""Printing of every character, whatever the encoding of the terminal can hold.

A console of code page 1252, or a C locale, has no "⁺" and no "✓". There such a character is written
as its nearest ASCII text, or as an escape like "\\u4e2d", instead of ending the program.
"""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

HANDLER = "sgflux-nearest"
"""Name under which :func:`nearest` is known to codecs."""

_NEAREST = {
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{SUPERSCRIPT MINUS}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{CHECK MARK}": "yes",
    "\N{BALLOT X}": "no",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{BULLET}": "*",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
}
_CORNERS = "╭╮╰╯┌┐└┘├┤┬┴┼"


def nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return a replacement of the first character that cannot be encoded; a codecs handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(character) <= 0xDCFF:
        # A byte of a file's name that is no UTF-8: written as the byte that it is.
        return bytes([ord(character) - 0xDC00]), after
    text = _NEAREST.get(character) or ("+" if character in _CORNERS else "")
    if not text:
        # "é" is "e" and an accent, "⁺" is "+", a blank at which no line breaks is a blank.
        parts = unicodedata.normalize("NFKD", character)
        text = "".join(part for part in parts if not unicodedata.combining(part))
    if not text.isascii() or not text:
        text = character.encode("ascii", "backslashreplace").decode("ascii")
    return text, after


def take_every_character() -> None:
    """Let standard output and standard error write every text, degraded where need be."""
    codecs.register_error(HANDLER, nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
