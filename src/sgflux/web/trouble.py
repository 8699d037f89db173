"""What is wrong with an input, in words for the place where it stands."""

from __future__ import annotations

from collections.abc import Callable

from sgflux.errors import SgfluxError
from sgflux.files.reading import naming_unreadable

_HEAD, _END = 280, 120  # letters of a long message that are shown


def trouble_of(path: str, read: Callable[[], object]) -> str | None:
    """Return what is wrong with a file, a folder or an id that a person names.

    Args:
        path: Name of the file or folder, or the id.
        read: Function that raises what is wrong with it.

    Returns:
        The message, or None if ``read`` raises nothing.
    """
    try:
        with naming_unreadable(path):  # such as a name that is too long for the system
            read()
    except SgfluxError as error:
        return in_brief(str(error))
    return None


def in_brief(words: str) -> str:
    """Return a message without the middle part of what is long, such as a text that was pasted."""
    if len(words) <= _HEAD + _END:
        return words
    return f"{words[:_HEAD]} … {words[-_END:]}"
