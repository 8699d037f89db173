"""Digests of weights, remembered so that gigabytes are read once.

SHA-256 through hashlib reads 1 to 2 gigabytes a second and thread on a processor with SHA
instructions (0.4 without), and threads share the work: FLUX.1 in bf16, 34 gigabytes with its text
encoders, takes as long as the disk, once. Later runs find the digest by the files' paths, sizes,
times and inodes.

The memory is ``base_digests.json`` in the user's cache folder (``$XDG_CACHE_HOME/sgflux`` or
``~/.cache/sgflux``). ``SGFLUX_DIGEST_CACHE`` names another file; with ``SGFLUX_DIGEST_CACHE=off``
nothing is looked up or remembered, so everything is read again. A memory that cannot be read or
written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.files.writing import replace_file

CACHE_VARIABLE = "SGFLUX_DIGEST_CACHE"
"""Environment variable: the file that remembers digests, or ``off``."""

_CHUNK = 1 << 23  # numbers converted and hashed at once
_KEPT = 512  # digests remembered
_YOUNG = 2 * 10**9  # nanoseconds in which a change might leave a file's time as it was
_Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
_EXACT = (torch.bfloat16, torch.float16, torch.float32)


def tensor_digest(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's shape and values, 64 hex digits.

    Floating-point values are hashed in the narrowest of bf16, fp16, fp32 and fp64 that holds all of
    them exactly, so it does not matter in which wider format they are stored.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    dtype = _narrowest(flat) if flat.is_floating_point() else flat.dtype
    digest = hashlib.sha256(f"{dtype} {tuple(tensor.shape)}".encode())
    for chunk in flat.split(_CHUNK):
        digest.update(chunk.to(dtype).view(torch.uint8).numpy())
    return digest.hexdigest()


def state_digest(state: Mapping[str, Tensor | Callable[[], Tensor]]) -> str:
    """The SHA-256 of named tensors, whatever their order; a callable loads its tensor.

    Several tensors are hashed at once, in one thread a core.
    """

    def digest(name: str) -> tuple[str, str]:
        value = state[name]
        return name, tensor_digest(value if isinstance(value, Tensor) else value())

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(digest, sorted(state)))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def files_identity(folder: Path, parts: Iterable[str], *, single: Sequence[Path] = ()) -> str:
    """The digest of all files in some parts of a model's folder, 64 hex digits.

    Args:
        folder: Folder of the model.
        parts: Names of the subfolders.
        single: Further files, each of which holds a part.

    Raises:
        SgfluxError: naming a part or file that cannot be read.
    """
    files: list[Path] = []
    for part in parts:
        found = sorted(path for path in (folder / part).rglob("*") if path.is_file())
        if not found:
            raise SgfluxError(f"model folder {str(folder)!r} has no files in {part!r}")
        files += found
    names = [path.relative_to(folder).as_posix() for path in files]
    files += single
    names += [f"file {number}" for number in range(len(single))]

    def digest() -> str:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            content = list(zip(names, pool.map(_file_digest, files), strict=True))
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    return remembered(f"files {names}", files, digest)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _narrowest(flat: Tensor) -> torch.dtype:
    for dtype in _EXACT:
        if flat.dtype == dtype or all(
            torch.equal(chunk.to(dtype).to(torch.float64), chunk.to(torch.float64))
            # A look at the first numbers settles almost all cases.
            for chunk in (flat[:4096], *flat.split(_CHUNK))
        ):
            return dtype
    return flat.dtype


# --- memory -------------------------------------------------------------------------------------


def remembered(what: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """A digest that depends on files, from the memory if none of them has changed.

    Args:
        what: names the digest and how it is taken; another text is another digest.
        files: all files that it is read from; a link counts as what it points to.
        compute: takes the digest.

    Raises:
        SgfluxError: naming a file that cannot be looked at.
    """
    try:
        started = time.time_ns()
        path = digest_memory()
        stamps = [_stamp(file) for file in files]
        key = hashlib.sha256(json.dumps([what, stamps]).encode()).hexdigest()
        known = {} if path is None else _known(path)
        if key in known:
            return known[key]
        digest = compute()
        is_settled = all(started - stamp[2] > _YOUNG for stamp in stamps)
        if path is not None and is_settled and stamps == [_stamp(file) for file in files]:
            # Another process may have remembered something since.
            known = {**_known(path), key: digest}
            kept = dict(list(known.items())[-_KEPT:])
            with contextlib.suppress(OSError, SgfluxError):
                replace_file(path, json.dumps(kept, indent=1))
        return digest
    except OSError as error:
        raise SgfluxError(
            f"model file {str(error.filename or files[0])!r} cannot be read: "
            f"{error.strerror or error}"
        ) from error


def digest_memory() -> Path | None:
    """The file that remembers digests; None if there is none, or SGFLUX_DIGEST_CACHE is "off"."""
    named = os.environ.get(CACHE_VARIABLE)
    if named == "off":
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "sgflux" / "base_digests.json"
    except RuntimeError:  # there is no home
        return None


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    real = path.resolve()
    status = real.stat()
    return str(real), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _known(path: Path) -> dict[str, str]:
    """The digests remembered; a file that is no such table is as good as none."""
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Digest])
    return {}
