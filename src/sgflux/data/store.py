"""A content-addressed store of tensors on disk: shards that vouch for themselves.

A shard is two files: ``shard-<id>.safetensors`` with stacked bf16 tensors, (n, ...) each, and
``shard-<id>.json`` with the n keys in the same order, the shapes and the sha256 of both. There is
no file that two writers share: every shard has a random id, and its index file, written last,
makes it visible. A key says all that the value depends on, so equal keys in two shards hold equal
values, and whatever is lost or broken is simply missing: it is named, set aside and encoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sgflux.data.files import replacing
from sgflux.errors import SgfluxError

logger = logging.getLogger(__name__)

_FORMAT = "sgflux-cache-1"
_FIELDS = {"format", "keys", "shapes", "size", "sha256", "index_sha256"}


@dataclass(frozen=True)
class DamagedShard:
    """A shard whose entries do not count, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        """Its name and the reason, for a log."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class _Shard:
    """What the index file of a shard says."""

    index_path: Path
    keys: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    size: int
    sha256: str

    @property
    def tensors_path(self) -> Path:
        return self.index_path.with_suffix(".safetensors")


class _DamagedError(Exception):
    """The reason why a shard does not count; never leaves this module."""


class CacheStore:
    """Tensors by key in a folder, safe under several writers and against broken files.

    Index files are read and checked when the store is opened; a shard's tensors are checked
    against their sha256 whenever they are read. A damaged shard is logged as a warning, listed in
    ``damaged``, and from then on as good as absent; the next write renames its files to
    ``*.damaged``.

    Attributes:
        root: the folder; made if it is missing.
        damaged: the shards found damaged so far.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        shard_entries: int = 1024,
        shard_bytes: int = 256 * 2**20,
    ) -> None:
        """Open a store.

        Args:
            root: its folder.
            shard_entries: entries after which a new shard is written.
            shard_bytes: bytes after which one is written, if these are reached first.

        Raises:
            SgfluxError: if ``root`` cannot be a folder or a limit is below 1.
        """
        if shard_entries < 1 or shard_bytes < 1:
            raise SgfluxError(
                f"shard_entries and shard_bytes must be at least 1, got {shard_entries} "
                f"and {shard_bytes}"
            )
        self.root = Path(root)
        self.shard_entries = shard_entries
        self.shard_bytes = shard_bytes
        self.damaged: list[DamagedShard] = []
        self._aside: set[Path] = set()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SgfluxError(f"the cache {str(root)!r} cannot be a folder: {error}") from error
        self._shards: dict[Path, _Shard] = {}
        self._locations: dict[str, tuple[_Shard, int]] = {}
        self.refresh()

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._locations)

    def __contains__(self, key: object) -> bool:
        """Whether a shard that is not known to be damaged has ``key``."""
        return key in self._locations

    def refresh(self) -> None:
        """Look for shards that other writers have finished since, or that are gone."""
        known = self._shards
        self._shards = {}
        damaged = {shard.path for shard in self.damaged}
        for path in sorted(set(self.root.glob("shard-*.json")) - damaged):
            try:
                self._shards[path] = known[path] if path in known else _read_index(path)
            except _DamagedError as error:
                self._report(path, str(error))
        self._relocate()

    def read(self, keys: Iterable[str]) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        """The entries of ``keys`` that are there, shard by shard.

        Yields:
            The keys found in a shard, and its tensors for them, (number of keys, ...) bf16 each.
            Keys that are missing, or only in damaged shards, are in none of them.
        """
        pending = dict.fromkeys(keys)
        while True:
            wanted: dict[Path, list[str]] = {}
            for key in pending:
                if key in self._locations:
                    wanted.setdefault(self._locations[key][0].index_path, []).append(key)
            if not wanted:
                return
            # A damaged shard is forgotten, so the next round finds a copy of its keys or nothing.
            for path, group in wanted.items():
                shard = self._shards[path]
                try:
                    tensors = _read_tensors(shard)
                except _DamagedError as error:
                    self._report(path, str(error))
                    continue
                rows = torch.tensor([self._locations[key][1] for key in group])
                for key in group:
                    del pending[key]
                yield group, {name: tensor[rows] for name, tensor in tensors.items()}
            self._relocate()

    def writer(self) -> ShardWriter:
        """A context that writes entries in shards; what it wrote is in the store at once."""
        return ShardWriter(self)

    def verify(self) -> list[DamagedShard]:
        """Read every shard that is there and return the damaged ones, which no longer count."""
        self.damaged.clear()
        self._aside.clear()
        self._shards.clear()
        self.refresh()
        for path, shard in list(self._shards.items()):
            try:
                _read_tensors(shard)
            except _DamagedError as error:
                self._report(path, str(error))
        self._relocate()
        return list(self.damaged)

    def _report(self, index_path: Path, reason: str) -> None:
        self._shards.pop(index_path, None)
        self.damaged.append(DamagedShard(index_path, reason))
        logger.warning("cache shard %s; its entries are encoded again", self.damaged[-1])

    def _relocate(self) -> None:
        self._locations = {
            key: (shard, row)
            for shard in self._shards.values()
            for row, key in enumerate(shard.keys)
        }

    def _write_shard(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        self._set_damaged_aside()
        index_path = self.root / f"shard-{uuid.uuid4().hex}.json"
        data = safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()})
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}
        shard = _Shard(index_path, tuple(keys), shapes, len(data), hashlib.sha256(data).hexdigest())
        index: dict[str, Any] = {
            "format": _FORMAT,
            "keys": list(keys),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "size": shard.size,
            "sha256": shard.sha256,
        }
        index["index_sha256"] = _index_sha256(index)
        with replacing(shard.tensors_path) as file:
            file.write(data)
        with replacing(index_path) as file:
            file.write(json.dumps(index).encode())
        self._shards[index_path] = shard
        for row, key in enumerate(shard.keys):
            self._locations[key] = shard, row

    def _set_damaged_aside(self) -> None:
        for shard in self.damaged:
            if shard.path not in self._aside:
                self._aside.add(shard.path)
                for path in (shard.path, shard.path.with_suffix(".safetensors")):
                    # Another writer may have been faster, or the file be the one that is missing.
                    with contextlib.suppress(FileNotFoundError):
                        path.replace(path.with_name(f"{path.name}.damaged"))


class ShardWriter:
    """Collects entries and writes a shard whenever enough have come.

    As a context it writes the rest at the end; if the block raises, the shards written so far stay
    and the rest is dropped.
    """

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._keys: list[str] = []
        self._batches: list[dict[str, Tensor]] = []
        self._bytes = 0

    def __enter__(self) -> ShardWriter:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is left, unless the block raised."""
        if kind is None:
            self.flush()

    def add(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Add entries.

        Args:
            keys: n different keys, sha256 in hex.
            tensors: by name, (n, ...) bf16 each, on the CPU.

        Raises:
            ValueError: if the tensors are not of that kind.
        """
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bfloat16 or tensor.shape[:1] != (len(keys),):
                raise ValueError(
                    f"{name!r} must be ({len(keys)}, ...) bfloat16, "
                    f"got {tuple(tensor.shape)} {tensor.dtype}"
                )
        if self._batches and _row_shapes(self._batches[0]) != _row_shapes(tensors):
            self.flush()
        self._keys.extend(keys)
        self._batches.append(dict(tensors))
        self._bytes += sum(tensor.nbytes for tensor in tensors.values())
        if len(self._keys) >= self._store.shard_entries or self._bytes >= self._store.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what has been added as one shard, if there is anything."""
        if self._keys:
            names = self._batches[0]
            tensors = {name: torch.cat([batch[name] for batch in self._batches]) for name in names}
            self._store._write_shard(self._keys, tensors)
        self._keys, self._batches, self._bytes = [], [], 0


def _row_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}


def _index_sha256(index: Mapping[str, Any]) -> str:
    content = {name: value for name, value in index.items() if name != "index_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_index(path: Path) -> _Shard:
    """An index file that is intact and beside a tensor file of the right size."""
    try:
        index = json.loads(path.read_bytes())
    except OSError as error:
        raise _DamagedError(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"is no JSON: {error}") from error
    if not isinstance(index, dict) or index.get("format") != _FORMAT or set(index) != _FIELDS:
        raise _DamagedError(f"is no index of the format {_FORMAT!r}")
    if index["index_sha256"] != _index_sha256(index):
        raise _DamagedError("has changed since it was written: its checksum does not match")
    shard = _Shard(
        index_path=path,
        keys=tuple(index["keys"]),
        shapes={name: tuple(shape) for name, shape in index["shapes"].items()},
        size=index["size"],
        sha256=index["sha256"],
    )
    try:
        size = shard.tensors_path.stat().st_size
    except OSError as error:
        raise _DamagedError(
            f"{shard.tensors_path.name} cannot be read: {error.strerror}"
        ) from error
    if size != shard.size:
        raise _DamagedError(f"{shard.tensors_path.name} has {size} bytes instead of {shard.size}")
    return shard


def _read_tensors(shard: _Shard) -> dict[str, Tensor]:
    """The tensors of a shard, checked."""
    name = shard.tensors_path.name
    try:
        data = shard.tensors_path.read_bytes()
    except OSError as error:
        raise _DamagedError(f"{name} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise _DamagedError(f"{name} is corrupt: its checksum does not match")
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # The checksum is right, so this is a shard that never was one.
        raise _DamagedError(f"{name} is no safetensors file: {error}") from error
    if _row_shapes(tensors) != dict(shard.shapes):
        raise _DamagedError(f"{name} has the shapes {_row_shapes(tensors)}, not {shard.shapes}")
    return tensors
