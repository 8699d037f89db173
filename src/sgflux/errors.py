"""Errors that are written for users of sgflux."""


class SgfluxError(ValueError):
    """Bad input: the message names the file, line, key or value and the way out.

    The command line prints it as one line and exits with status 2; a traceback is reserved for
    defects of sgflux itself.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its representation if it has no message."""
    return (str(error).strip() or repr(error)).splitlines()[0]
