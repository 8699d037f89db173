"""Errors that are written for users of sgflux."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SgfluxError(ValueError):
    """Bad input: the message names the file, line, key or value and the way out.

    The command line prints it as one line and exits with status 2; a traceback is reserved for
    defects of sgflux itself.

    Attributes:
        advice: End of the message that helps on the command line alone, such as the name of a flag;
            the page leaves it out.
    """

    def __init__(self, message: object = "", *, advice: str = "") -> None:
        """Keep the whole message, and which end of it is advice."""
        super().__init__(f"{message}{advice}")
        self.advice = advice

    @property
    def reason(self) -> str:
        """The message without the advice."""
        return str(self).removesuffix(self.advice)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its representation if it has no message."""
    return (str(error).strip() or repr(error)).splitlines()[0]


@contextmanager
def located(where: object, *others: type[Exception]) -> Iterator[None]:
    """Put a place before the messages of a block's errors.

    Args:
        where: The place: a file, a line of it, a setting.
        others: Further kinds of errors of the block that are about bad input.

    Raises:
        SgfluxError: in place of the block's.
    """
    try:
        yield
    except (SgfluxError, *others) as error:  # type: ignore[misc]
        advice = getattr(error, "advice", "")
        raise SgfluxError(f"{where}: {str(error).removesuffix(advice)}", advice=advice) from error
