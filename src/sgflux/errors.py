"""Errors that are written for users of sgflux."""


class SgfluxError(ValueError):
    """Bad input: the message names the file, line, key or value and the way out.

    The command line prints it as one line and exits with status 2; a traceback is reserved for
    defects of sgflux itself.
    """
