"""Which rows and pictures an adapter was trained and selected on: 64-bit digests in its bundle.

A picture is the bytes of its file; a row is its picture and what its graph states, whatever it is
called. A hundred thousand rows take at most 1.6 MB, and two different rows share a digest in one of
some ten billion comparisons of such a set with ten thousand rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.graphs.merging import canonical_statement
from sgflux.graphs.predicates import DEFAULT_VOCABULARY

SEEN_FILE = "seen_data.safetensors"
"""The file in a bundle's folder."""
_LARGEST = 1 << 30


def row_digests(examples: Sequence[SceneExample], files: Sequence[str]) -> dict[str, np.ndarray]:
    """Return ``rows`` and ``pictures``, (n,) uint64 each, in the order of the examples."""
    rows = []
    for example, file in zip(examples, files, strict=True):
        stated = sorted(
            canonical_statement(
                triple.subject.casefold(),
                triple.predicate,
                triple.object.casefold(),
                DEFAULT_VOCABULARY,
            )
            for triple in example.graph.triples()
        )
        text = json.dumps([file, example.is_mirrored, stated]).encode()
        rows.append(hashlib.sha256(text).digest()[:8])
    pictures = [bytes.fromhex(file)[:8] for file in files]
    return {"rows": _numbers(rows), "pictures": _numbers(pictures)}


def seen_bytes(splits: dict[str, dict[str, np.ndarray]]) -> bytes:
    """Return the content of :data:`SEEN_FILE`: split -> sorted digests, each once."""
    return save(
        {
            f"{split}.{kind}": np.unique(values)
            for split, digests in splits.items()
            for kind, values in digests.items()
        }
    )


def overlap(
    bundle: Path, examples: Sequence[SceneExample], files: Sequence[str]
) -> dict[str, dict[str, int]] | None:
    """Return how many of the examples an adapter has seen: split -> rows and pictures.

    None if the bundle does not say what it has seen, as older ones.

    Raises:
        SgfluxError: if its file is damaged.
    """
    path = bundle / SEEN_FILE
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST:
        raise SgfluxError(f"{path}: is larger than {_LARGEST} bytes, which no such file is")
    try:
        seen = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise SgfluxError(f"{path}: is damaged: {error}") from error
    if any(values.dtype != np.uint64 or values.ndim != 1 for values in seen.values()):
        raise SgfluxError(f"{path}: is damaged: expected lists of 64-bit numbers")
    own = row_digests(examples, files)
    found: dict[str, dict[str, int]] = {}
    for name, values in seen.items():
        split, _, kind = name.partition(".")
        if kind in own:
            asked = own[kind] if kind == "rows" else np.unique(own[kind])
            found.setdefault(split, {})[kind] = int(np.isin(asked, values, kind="sort").sum())
    return found


def _numbers(digests: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()
