"""Stacked tensors of which some rows are wanted at a time: in memory, or left on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sgflux.data.cache.shards import DamagedError, read_rows
from sgflux.data.cache.store import CacheStore
from sgflux.errors import SgfluxError


class TensorRows(Protocol):
    """N rows of tensors by name."""

    def __len__(self) -> int:
        """N."""

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows ``index`` (B,) int64 of every tensor, (B, ...) each."""


class MemoryRows:
    """Rows of tensors that are in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Take (N, ...) tensors."""
        self._tensors = dict(tensors)

    def __len__(self) -> int:
        """N."""
        return len(next(iter(self._tensors.values())))

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows ``index`` (B,) int64 of every tensor, (B, ...) each."""
        return {name: tensor[index] for name, tensor in self._tensors.items()}


class StoredRows:
    """Rows that stay on disk: each is read, and its checksum compared, when it is asked for.

    Eight bytes of memory a row; nothing read is kept (the system's file cache does that).
    """

    def __init__(self, store: CacheStore, keys: Sequence[str]) -> None:
        """Find the rows of the keys.

        Raises:
            SgfluxError: if a key is not there, or entries have different shapes.
        """
        numbers, rows = store.locate(keys)
        missing = int((numbers < 0).sum())
        if missing:
            raise SgfluxError(
                f"{missing} of {len(keys)} entries are not in the cache {str(store.root)!r}; run "
                "`sgflux cache` with every --shard first, or without --num-shards"
            )
        used, self._shard = np.unique(numbers, return_inverse=True)
        self._shards = [store.shard(int(number)) for number in used]
        self._row = rows
        self._store = store
        shapes = self._shards[0].shapes if self._shards else {}
        for shard in self._shards:
            if shard.shapes != shapes:
                raise SgfluxError(
                    f"the cache has entries of different shapes, {dict(shapes)} and "
                    f"{dict(shard.shapes)}, under one encoder identity; an identity must change "
                    "with the encoder: use another cache folder"
                )

    def __len__(self) -> int:
        """N."""
        return len(self._row)

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows ``index`` (B,) int64 of every tensor, (B, ...) each.

        Raises:
            SgfluxError: naming the shard, if a row is not what was written; the shard is set
                aside, so that the next run encodes its entries again.
        """
        wanted = index.numpy()
        shards = self._shard[wanted]
        result: dict[str, Tensor] = {}
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            shard = self._shards[number]
            try:
                found = read_rows(shard, self._row[wanted[places]].tolist())
            except DamagedError as error:
                self._store.report(shard.index_path, str(error))
                self._store.set_damaged_aside()
                raise SgfluxError(
                    f"cache shard {shard.index_path}: {error}; it was set aside as *.damaged: run "
                    "the same command again, and its entries are encoded again"
                ) from error
            for name, tensor in found.items():
                if name not in result:
                    result[name] = tensor.new_empty((len(wanted), *tensor.shape[1:]))
                result[name][torch.from_numpy(places)] = tensor
        return result


class JoinedRows:
    """Rows of several parts, one after another; rows that are asked for together are of one part.

    The parts may have other shapes than each other, as the latents of pictures of several sizes.
    """

    def __init__(self, parts: Sequence[TensorRows]) -> None:
        """Take at least one part; none of them is empty."""
        self._parts = tuple(parts)
        self._ends = torch.tensor([len(part) for part in self._parts]).cumsum(0)

    def __len__(self) -> int:
        """Number of rows of all parts."""
        return int(self._ends[-1])

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows ``index`` (B,) int64 of every tensor, (B, ...) each.

        Raises:
            ValueError: if they are of several parts.
        """
        parts = torch.searchsorted(self._ends, index, right=True).unique().tolist()
        if len(parts) != 1:
            raise ValueError(f"rows of one part at a time are given, not of {len(parts)}")
        first = int(self._ends[parts[0] - 1]) if parts[0] else 0
        return self._parts[parts[0]].rows(index - first)
