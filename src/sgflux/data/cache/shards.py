"""One shard of a cache: its index file, its rows and its checksums.

An index file is ``{"index_sha256": "<sha256 of the rest>", "content": {...}}``, byte for byte, so
that it can be checked before it is parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.files.reading import naming_unreadable
from sgflux.files.weights_header import read_header
from sgflux.files.writing import replacing

FORMAT = "sgflux-cache-2"

_HEAD = b'{"index_sha256": "%s", "content": '
_HEAD_SIZE = len(_HEAD % (b"0" * 64))
_CHECKSUM_BYTES = 8
_DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I8": torch.int8}


class DamagedError(Exception):
    """The reason why a shard does not count; never leaves the store."""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """What an index file states."""

    format: Literal["sgflux-cache-2"]
    keys: Annotated[list[str], Meta(min_length=1)]
    rows: str
    shapes: Annotated[
        dict[str, tuple[Annotated[int, Meta(gt=0, lt=2**48)], ...]], Meta(min_length=1)
    ]
    size: int
    sha256: str


class _Index(msgspec.Struct):
    """An index file, whose checksum is compared before it is parsed."""

    content: _Content


_INDEX = msgspec.json.Decoder(_Index)


@dataclass(frozen=True, eq=False)
class Shard:
    """What the index file of a shard says.

    Attributes:
        index_path: the index file.
        digests: the keys, (n, 32) uint8.
        checksums: one a row, n times 8 bytes.
        shapes: name -> shape of one entry.
        size: Size of the tensor file in bytes.
        sha256: SHA-256 of the tensor file.
    """

    index_path: Path
    digests: np.ndarray
    checksums: bytes
    shapes: Mapping[str, tuple[int, ...]]
    size: int
    sha256: str

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.digests)

    @property
    def path(self) -> Path:
        """The tensor file."""
        return self.index_path.with_suffix(".safetensors")

    @cached_property
    def layout(self) -> list[tuple[str, torch.dtype, int, int]]:
        """(name, dtype, offset in the file, bytes of a row) of every tensor, by name.

        Raises:
            DamagedError: if the tensor file's head is not that of this shard.
        """
        try:
            head = read_header(self.path)
        except SgfluxError as error:
            raise DamagedError(str(error)) from error
        entries: list[tuple[str, torch.dtype, int, int]] = []
        for name in sorted(self.shapes):
            stored = head.get(name)
            if stored is None or stored.shape != (len(self), *self.shapes[name]):
                raise DamagedError(f"{self.path.name} has other shapes than its index")
            if stored.dtype not in _DTYPES:
                raise DamagedError(f"{self.path.name} has numbers of the type {stored.dtype}")
            width = (stored.stop - stored.start) // len(self)
            entries.append((name, _DTYPES[stored.dtype], stored.start, width))
        return entries

    def check_file(self) -> None:
        """Read the whole tensor file.

        Raises:
            DamagedError: if it is not the one that was written.
        """
        with _reading(self.path), self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if digest.hexdigest() != self.sha256:
            raise DamagedError(f"{self.path.name} is corrupt: its checksum does not match")


def _reading(path: Path) -> AbstractContextManager[None]:
    return naming_unreadable(path.name, kind=DamagedError)


def key_bytes(keys: Sequence[str]) -> np.ndarray:
    """Return keys, sha256 in hex, as (n, 32) uint8."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(len(keys), 32)


def row_checksums(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the checksum of every row, over its bytes in all tensors by name."""
    parts = [_as_bytes(tensors[name]) for name in sorted(tensors)]
    return [_checksum([part[row] for part in parts]).hex() for row in range(len(parts[0]))]


def write_index(
    path: Path,
    *,
    keys: Sequence[str],
    checksums: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    size: int,
    sha256: str,
) -> None:
    """Write an index file, all of it or nothing."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "size": size,
        "sha256": sha256,
        "rows": "".join(checksums),
        "keys": list(keys),
    }
    body = json.dumps(content).encode() + b"}"
    with replacing(path) as file:
        file.write(_HEAD % hashlib.sha256(body).hexdigest().encode())
        file.write(body)


def read_index(path: Path) -> Shard:
    """Read an index file that is intact and lies beside a tensor file of the right size.

    A tensor file that is newer than its index is read and checked as a whole.

    Raises:
        DamagedError: otherwise.
    """
    with _reading(path):
        data = path.read_bytes()
    body = data[_HEAD_SIZE:]
    if data[:_HEAD_SIZE] != _HEAD % hashlib.sha256(body).hexdigest().encode():
        raise DamagedError(
            "is no index of this format, or has changed since it was written: "
            "its checksum does not match"
        )
    try:
        shard = _shard(path, _INDEX.decode(data).content)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"is no index of the format {FORMAT!r}: {error}") from error
    with _reading(shard.path):
        status, written = shard.path.stat(), path.stat().st_mtime_ns
    if status.st_size != shard.size:
        raise DamagedError(f"{shard.path.name} has {status.st_size} bytes instead of {shard.size}")
    if status.st_mtime_ns > written:
        # The index is written last: somebody has touched, copied or replaced the tensors since.
        shard.check_file()
        with contextlib.suppress(OSError):
            os.utime(path)
    return shard


def _shard(path: Path, content: _Content) -> Shard:
    """Return the shard that an index states; its checksum does not exclude a forgery."""
    try:
        digests, checksums = key_bytes(content.keys), bytes.fromhex(content.rows)
    except ValueError as error:
        raise DamagedError(f"has a key or checksum that is none: {error}") from error
    if len(checksums) != _CHECKSUM_BYTES * len(digests):
        raise DamagedError(f"has {len(digests)} keys, but checksums of another number of rows")
    return Shard(
        index_path=path,
        digests=digests,
        checksums=checksums,
        shapes=content.shapes,
        size=content.size,
        sha256=content.sha256,
    )


def read_rows(shard: Shard, rows: Sequence[int]) -> dict[str, Tensor]:
    """Read and check some rows of a shard, (number of rows, ...) each, and nothing else.

    Raises:
        DamagedError: if a row is not what was written.
    """
    layout = shard.layout
    buffers = [bytearray(len(rows) * width) for _, _, _, width in layout]
    with _reading(shard.path), shard.path.open("rb", buffering=0) as file:
        for place, row in enumerate(rows):
            parts = []
            for buffer, (_, _, offset, width) in zip(buffers, layout, strict=True):
                file.seek(offset + row * width)
                part = file.read(width)
                buffer[place * width : place * width + len(part)] = part
                parts.append(part)
            start = row * _CHECKSUM_BYTES
            if _checksum(parts) != shard.checksums[start : start + _CHECKSUM_BYTES]:
                raise DamagedError(
                    f"{shard.path.name} is corrupt: the checksum of row {row} does not match"
                )
    return {
        name: torch.frombuffer(buffer, dtype=dtype).view(len(rows), *shard.shapes[name])
        for buffer, (name, dtype, _, _) in zip(buffers, layout, strict=True)
    }


def _as_bytes(tensor: Tensor) -> np.ndarray:
    """Return the rows' bytes, (n, bytes of a row) uint8."""
    rows = tensor.contiguous().view(len(tensor), -1).view(torch.uint8)
    return rows.numpy()


def _checksum(parts: Sequence[bytes | np.ndarray]) -> bytes:
    digest = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
    for part in parts:
        digest.update(part.data if isinstance(part, np.ndarray) else part)
    return digest.digest()
