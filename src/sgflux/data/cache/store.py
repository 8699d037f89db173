"""A content-addressed store of tensors on disk: shards that vouch for themselves.

A shard is two files: ``shard-<id>.safetensors`` with stacked tensors, (n, ...) each, and
``shard-<id>.json`` with the n keys in the same order, a checksum of every row, the shapes and the
sha256 of both files. There is no file that two writers share: every shard has a random id, and its
index file, written last, makes it visible. A key says all that the value depends on, so equal keys
in two shards hold equal values, and whatever is lost or broken is simply missing: it is named, set
aside and encoded again.

A million entries take some 175 MB of memory and a second or two of opening. Rows are read one by
one and checked against their own checksum, so that no byte is used that was not written.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sgflux.data.cache.shards import (
    DamagedError,
    Shard,
    key_bytes,
    read_index,
    row_checksums,
    write_index,
)
from sgflux.errors import SgfluxError
from sgflux.files.writing import make_folder, replacing

logger = logging.getLogger(__name__)

DTYPES = (torch.bfloat16, torch.float32, torch.int8)
"""What a stored tensor may be."""


@dataclass(frozen=True)
class DamagedShard:
    """A shard whose entries do not count, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        """Its name and the reason, for a log."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, eq=False)
class _Locations:
    """Where the N keys are, sorted by the first eight bytes of their digests.

    Attributes:
        prefixes: those bytes as a number, (N,) uint64, ascending.
        digests: the whole digests, (N, 32) uint8.
        shards: number of the shard in ``CacheStore.shards``, (N,) int32.
        rows: row in that shard, (N,) int32.
    """

    prefixes: np.ndarray
    digests: np.ndarray
    shards: np.ndarray
    rows: np.ndarray


class CacheStore:
    """Tensors by key in a folder, safe under several writers and against broken files.

    Index files are read and checked when the store is opened; a row is checked whenever it is read.
    A damaged shard is logged as a warning, listed in ``damaged``, and from then on as good as
    absent; the next write renames its files to ``*.damaged``.

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
            root: Folder of the store.
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
        self.root = make_folder(root)
        self.shard_entries = shard_entries
        self.shard_bytes = shard_bytes
        self.damaged: list[DamagedShard] = []
        self._aside: set[Path] = set()
        self._named: set[Path] = set()
        self._shards: dict[Path, Shard] = {}
        self._located: _Locations | None = None
        self._numbered: list[Shard] = []
        self.refresh()

    def __len__(self) -> int:
        """Number of different keys."""
        digests = self._locations().digests
        return len(np.unique(digests.view("S32"))) if len(digests) else 0

    def __contains__(self, key: object) -> bool:
        """Whether a shard that is not known to be damaged has ``key``."""
        return isinstance(key, str) and not self.missing([key])

    def refresh(self) -> None:
        """Look for shards that other writers have finished since, or that are gone."""
        known = self._shards
        self._shards = {}
        self._located = None
        damaged = {shard.path for shard in self.damaged}
        for path in sorted(set(self.root.glob("shard-*.json")) - damaged):
            try:
                self._shards[path] = known[path] if path in known else read_index(path)
            except DamagedError as error:
                self.report(path, str(error))

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that no shard has, in their order."""
        shards, _ = self.locate(keys)
        return [key for key, shard in zip(keys, shards.tolist(), strict=True) if shard < 0]

    def locate(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers for :meth:`shard` and rows of the keys, (n,) int32 each; -1 if nowhere.

        Both hold until the store changes.
        """
        table = self._locations()
        wanted = key_bytes(keys)
        found = np.full(len(keys), -1, dtype=np.int64)
        if len(table.prefixes) and len(keys):
            prefixes = _prefixes(wanted)
            at = np.searchsorted(table.prefixes, prefixes)
            pending = np.arange(len(keys))
            # One round, but for two keys that share their first eight bytes.
            while len(pending):
                pending = pending[at[pending] < len(table.prefixes)]
                pending = pending[table.prefixes[at[pending]] == prefixes[pending]]
                same = (table.digests[at[pending]] == wanted[pending]).all(axis=1)
                found[pending[same]] = at[pending[same]]
                pending = pending[~same]
                at[pending] += 1
        there = found >= 0
        shards, rows = (np.full(len(keys), -1, dtype=np.int32) for _ in range(2))
        shards[there], rows[there] = table.shards[found[there]], table.rows[found[there]]
        return shards, rows

    def shard(self, number: int) -> Shard:
        """Return the shard with a number that :meth:`locate` gave."""
        self._locations()
        return self._numbered[number]

    def writer(self) -> ShardWriter:
        """Return a context that writes entries in shards, which are in the store at once."""
        return ShardWriter(self)

    def verify(self) -> list[DamagedShard]:
        """Read every shard that is there and return the damaged ones, which no longer count."""
        self.damaged.clear()
        self._aside.clear()
        self._shards.clear()
        self.refresh()
        for path, shard in list(self._shards.items()):
            try:
                shard.check_file()
            except DamagedError as error:
                self.report(path, str(error))
        return list(self.damaged)

    def set_damaged_aside(self) -> None:
        """Rename the files of the shards found damaged to ``*.damaged``."""
        for shard in self.damaged:
            if shard.path not in self._aside:
                self._aside.add(shard.path)
                for path in (shard.path, shard.path.with_suffix(".safetensors")):
                    # Another writer may have been faster, or the file be the one that is missing.
                    with contextlib.suppress(FileNotFoundError):
                        path.replace(path.with_name(f"{path.name}.damaged"))

    def report(self, index_path: Path, reason: str) -> None:
        """Take a shard out because of ``reason``."""
        self._shards.pop(index_path, None)
        self._located = None
        self.damaged.append(DamagedShard(index_path, reason))
        if index_path not in self._named:
            self._named.add(index_path)
            logger.warning("cache shard %s; its entries are encoded again", self.damaged[-1])

    def _locations(self) -> _Locations:
        if self._located is None:
            self._numbered = list(self._shards.values())
            counts = [len(shard) for shard in self._numbered]
            empty = np.zeros((0, 32), dtype=np.uint8)
            digests = np.concatenate([empty, *(shard.digests for shard in self._numbered)])
            prefixes = _prefixes(digests)
            order = np.argsort(prefixes, kind="stable")
            shards = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            rows = [np.arange(count, dtype=np.int32) for count in counts]
            self._located = _Locations(
                prefixes=prefixes[order],
                digests=digests[order],
                shards=shards[order],
                rows=np.concatenate([np.zeros(0, dtype=np.int32), *rows])[order],
            )
        return self._located

    def write_shard(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Write entries as one shard, and set aside what was found damaged."""
        self.set_damaged_aside()
        path = self.root / f"shard-{uuid.uuid4().hex}.json"
        data = safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()})
        with replacing(path.with_suffix(".safetensors")) as file:
            file.write(data)
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}
        write_index(
            path,
            keys=keys,
            checksums=row_checksums(tensors),
            shapes=shapes,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        self._shards[path] = read_index(path)
        self._located = None


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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what is left, unless the block raised."""
        if kind is None:
            self.flush()

    def add(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Add entries.

        Args:
            keys: n different keys, sha256 in hex.
            tensors: Tensors by name, (n, ...) bf16, float32 or int8 each, on the CPU.

        Raises:
            ValueError: if the tensors are not of that kind.
        """
        for name, tensor in tensors.items():
            if tensor.dtype not in DTYPES or tensor.shape[:1] != (len(keys),):
                raise ValueError(
                    f"{name!r} must be ({len(keys)}, ...) bfloat16, float32 or int8, "
                    f"got {tuple(tensor.shape)} {tensor.dtype}"
                )
        if self._batches and _kind(self._batches[0]) != _kind(tensors):
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
            self._store.write_shard(self._keys, tensors)
        self._keys, self._batches, self._bytes = [], [], 0


def _kind(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    return {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in tensors.items()}


def _prefixes(digests: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of each digest, (n,) uint64."""
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()
