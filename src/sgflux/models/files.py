"""Foreign weights, read with care."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.weights_header import explain_other_file

_DEEPEST = 32


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What a ``.pt`` file holds, on the CPU, if that is tensors and plain containers alone.

    Raises:
        SgfluxError: if it is damaged, would run code, or has a tensor that is larger than what
            the file stores of it.
    """
    try:
        with Path(path).open("rb") as file:
            explain_other_file(Path(path), file.read(256), may_be_zip=True)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _expect_stored(path, content, depth=0)
        return content
    except SgfluxError:
        raise
    except OSError as error:
        raise SgfluxError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        # A damaged file makes the unpickler stumble in any of these ways.
        *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
        *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError),
    ) as error:
        reason = str(error).strip().splitlines()
        raise SgfluxError(
            f"{path}: is no checkpoint of weights alone: {reason[0] if reason else repr(error)}"
        ) from error


def _expect_stored(path: str | os.PathLike[str], content: Any, *, depth: int) -> None:
    """Refuse tensors that repeat a few stored numbers: a copy of one could fill the memory."""
    if depth > _DEEPEST:
        raise SgfluxError(f"{path}: nests its content deeper than {_DEEPEST} levels")
    if isinstance(content, Tensor):
        if content.layout != torch.strided or content.device.type != "cpu":
            raise SgfluxError(f"{path}: has a {content.layout} tensor on {content.device}")
        if content.nbytes > content.untyped_storage().nbytes():
            raise SgfluxError(
                f"{path}: has a tensor of {tuple(content.shape)}, of which the file stores "
                f"{content.untyped_storage().nbytes():,} bytes only"
            )
    elif isinstance(content, Mapping):
        for value in content.values():
            _expect_stored(path, value, depth=depth + 1)
    elif isinstance(content, list | tuple):
        for value in content:
            _expect_stored(path, value, depth=depth + 1)
