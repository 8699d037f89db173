"""JSON files that sgflux wrote and reads again: the types of their values are checked.

A shape is a :class:`msgspec.Struct`, or any type that msgspec knows. A line ends at a line feed
alone: ``str.splitlines`` also splits at U+2028, U+2029 and U+0085, which a JSON string may hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sgflux.errors import SgfluxError
from sgflux.files.reading import naming_unreadable

Shape = TypeVar("Shape")

MAX_FILE = 256 * 2**20
"""Bytes of a JSON file that is read at once."""
MAX_LINE = 16 * 2**20
"""Bytes of one line of a JSONL file."""


def read_json(path: str | os.PathLike[str], shape: type[Shape], *, way_out: str) -> Shape:
    """Return the content of a JSON file as ``shape``.

    Args:
        path: Path of the file.
        shape: Type that the content must have; fields that it does not name are ignored.
        way_out: Advice on a damaged file, which ends the message.

    Raises:
        SgfluxError: naming the file and the key, if it is missing, too large, or of another form.
    """
    return typed(read_json_bytes(path), shape, where=os.fspath(path), way_out=way_out)


def read_json_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file of at most :data:`MAX_FILE` bytes.

    Raises:
        SgfluxError: naming the file, if it cannot be read or is larger.
    """
    with naming_unreadable(path), Path(path).open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise SgfluxError(f"{path}: is larger than {MAX_FILE} bytes, which no such file is")
    return content


def typed(content: bytes, shape: type[Shape], *, where: str, way_out: str) -> Shape:
    """Return JSON text as ``shape``; ``where`` and ``way_out`` go into the message.

    Raises:
        SgfluxError: if it is no JSON or of another form.
    """
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SgfluxError(f"{where}: is damaged: {error}; {way_out}") from error


def checked(value: Any, shape: type[Any], *, where: str, way_out: str) -> None:
    """Check parsed JSON against ``shape``, and keep it as it is.

    Raises:
        SgfluxError: if it is of another form.
    """
    try:
        msgspec.convert(value, type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SgfluxError(f"{where}: is damaged: {error}; {way_out}") from error


def iter_json_lines(
    path: str | os.PathLike[str], shape: type[Shape], *, way_out: str, may_be_cut: bool = False
) -> Iterator[tuple[int, Shape]]:
    """Yield (line number from 1, content as ``shape``) of every line that is not blank.

    Args:
        path: Path of the file.
        shape: Type that each line must have.
        way_out: Advice on a damaged file, which ends the message.
        may_be_cut: Leave out a last line that does not end, which a killed writer leaves.

    Raises:
        SgfluxError: naming file, line and key, if the file cannot be read or a line is too long or
            of another form.
    """
    if not Path(path).exists():
        raise SgfluxError(f"{path} is not there; {way_out}")
    with naming_unreadable(path), Path(path).open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MAX_LINE:
                raise SgfluxError(f"{where}: is longer than {MAX_LINE} bytes; {way_out}")
            if not line.strip():
                continue
            try:
                row = typed(line, shape, where=where, way_out=way_out)
            except SgfluxError:
                if may_be_cut and not line.endswith(b"\n"):
                    return
                raise
            yield number, row
