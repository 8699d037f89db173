"""Headers of ``.safetensors`` files, which name every tensor without loading it.

The format: eight bytes with the header's length, a JSON header with type, shape and place of every
tensor, then the tensors. So a file that is cut off, or is something else under that name, is known
before anything is loaded.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from sgflux.errors import SgfluxError
from sgflux.files.reading import naming_unreadable
from sgflux.files.writing import readable_size

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKUP = (b"<!doctype html", b"<html", b"<?xml")
_LONGEST_HEADER = 100_000_000
"""The format's own limit."""

_BYTES_OF = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}
AGAIN = "download the file again"
"""What to do about a file that is not whole."""


_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct):
    """A tensor as the header states it; the offsets count from the first value."""

    dtype: str
    shape: tuple[_Size, ...]
    data_offsets: tuple[_Size, _Size]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    Attributes:
        dtype: Type of the values, as the format names it.
        shape: Sizes of the axes.
        start: Offset in the file at which its values begin.
        stop: Offset at which its values end.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int = 0


def read_header(path: str | os.PathLike[str]) -> dict[str, StoredTensor]:
    """Read the tensors' entries by name; the file's size is compared with what they need.

    Raises:
        SgfluxError: naming the file, what is wrong with it, and what to do.
    """
    path = Path(path)
    with naming_unreadable(path), path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(256)
        explain_other_file(path, start)
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= length <= _LONGEST_HEADER:
            raise SgfluxError(f"{path}: is no .safetensors file: {AGAIN}")
        first = 8 + length
        if first > size:
            raise SgfluxError(
                f"{path}: ends within its header, after {readable_size(size)}: {AGAIN}"
            )
        file.seek(8)
        header = file.read(length)
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SgfluxError(f"{path}: has a damaged header: {AGAIN}") from error
    entries.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, raw, first=first) for name, raw in entries.items()}
    end = max((tensor.stop for tensor in tensors.values()), default=first)
    if end != size:
        raise SgfluxError(
            f"{path}: has {readable_size(size)} of the {readable_size(end)} that its header "
            f"promises ({end - size:,} bytes are missing): {AGAIN}"
            if end > size
            else f"{path}: has {size - end:,} bytes more than its header promises; it is no whole "
            f"file of weights: {AGAIN}"
        )
    return tensors


def _tensor(path: Path, name: str, raw: msgspec.Raw, *, first: int) -> StoredTensor:
    """Return one entry of a header; ``first`` is the offset of the first value in the file."""
    damaged = SgfluxError(f"{path}: its header's entry {name!r} is damaged: {AGAIN}")
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise damaged from error
    start, stop = entry.data_offsets
    size = math.prod(entry.shape) * _BYTES_OF.get(entry.dtype, 0)
    if start > stop or (entry.dtype in _BYTES_OF and size != stop - start):
        raise damaged
    return StoredTensor(entry.dtype, entry.shape, start=first + start, stop=first + stop)


def explain_other_file(path: Path, start: bytes, *, may_be_zip: bool = False) -> None:
    """Refuse a file whose first bytes are those of something that is often taken for weights.

    Args:
        path: Path of the file.
        start: First bytes of the file.
        may_be_zip: Whether a zip archive is expected.

    Raises:
        SgfluxError: if it is empty, a git-lfs pointer, or a web page.
    """
    if not start:
        raise SgfluxError(f"{path}: is empty: {AGAIN}")
    if start.startswith(_LFS_POINTER):
        raise SgfluxError(
            f"{path}: is a git-lfs pointer, not the file itself: run `git lfs pull` in its "
            f"repository, or {AGAIN}"
        )
    if not may_be_zip and start.startswith(b"PK\x03\x04"):
        raise SgfluxError(
            f"{path}: is a zip archive, such as torch.save writes, under the name of another kind "
            "of file: give the .safetensors file"
        )
    if start.lstrip()[:16].lower().startswith(_MARKUP):
        raise SgfluxError(
            f"{path}: is a web page that was saved under this name, perhaps one that asks for a "
            f"login: {AGAIN}"
        )
