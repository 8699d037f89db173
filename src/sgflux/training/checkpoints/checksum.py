"""A checksum of everything that a checkpoint holds.

torch's zip files have a checksum of each record that ``torch.load`` does not compare, and a changed
bit in a weight is a weight like any other. So the content itself is hashed: names, types, numbers,
and the bytes of all tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def content_checksum(content: Any) -> str:
    """The SHA-256 of nested dictionaries, lists, tuples, tensors and plain values, in hex.

    Raises:
        TypeError: on anything else.
    """
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        digest.update(flat.view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)};".encode())
        for key, entry in value.items():
            _add(digest, key)
            _add(digest, entry)
    elif isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__} {len(value)};".encode())
        for entry in value:
            _add(digest, entry)
    elif value is None or isinstance(value, bool | int | float | str):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)};".encode() + text)
    else:
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")
