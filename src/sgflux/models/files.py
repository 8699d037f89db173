"""Foreign weights, read with care."""

from __future__ import annotations

import os
import pickle
from typing import Any

import torch

from sgflux.errors import SgfluxError


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """What a ``.pt`` file holds, on the CPU, if that is tensors and plain containers alone.

    Raises:
        SgfluxError: if it is damaged, or would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
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
