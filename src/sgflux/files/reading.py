"""Reading of files that somebody else wrote, with one line about those that cannot be read."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError


@contextmanager
def naming_unreadable(
    path: str | os.PathLike[str], *errors: type[Exception], kind: type[Exception] = SgfluxError
) -> Iterator[None]:
    """Turn the system's errors, and further ones, of a block that reads a file into one line.

    Args:
        path: Path of the file, as it is named.
        errors: Further kinds of errors.
        kind: Kind of the error that is raised instead.

    Raises:
        SgfluxError: naming the file; or the given kind.
    """
    try:
        yield
    except (*errors, OSError) as error:  # type: ignore[misc]
        reason = getattr(error, "strerror", None) or error
        raise kind(f"{path}: cannot be read: {reason}") from error


def refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which JSON does not have and Python's reader takes.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no JSON number")


def read_json_object(
    path: str | os.PathLike[str], *needed: str, way_out: str = ""
) -> dict[str, Any]:
    """Read a JSON file that holds an object; a byte order mark is passed over.

    Args:
        path: Path of the file.
        needed: Keys that the object must have.
        way_out: Advice on a file that holds something else, which ends the message.

    Raises:
        SgfluxError: naming the file, if it cannot be read or holds something else.
    """
    with naming_unreadable(path):
        content = Path(path).read_bytes()
    advice = f"; {way_out}" if way_out else ""
    try:
        found = json.loads(content.decode("utf-8-sig"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SgfluxError(f"{path}: not JSON: {error}{advice}") from error
    if not isinstance(found, dict):
        raise SgfluxError(f"{path}: must hold one JSON object, has {type(found).__name__}{advice}")
    for key in needed:
        if key not in found:
            raise SgfluxError(f"{path}: has no {key!r}{advice}")
    return found


def table_beside(module: str) -> dict[str, Any]:
    """Return the content of the TOML file that has the name of a module and lies beside it.

    Args:
        module: The module's ``__file__``.
    """
    return tomllib.loads(Path(module).with_suffix(".toml").read_text(encoding="utf-8"))
