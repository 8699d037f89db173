"""Devices and precisions by the names that settings give them."""

from __future__ import annotations

import torch

from sgflux.errors import SgfluxError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Name of a precision in settings -> torch's."""


def usable_device(name: str) -> torch.device:
    """The device of a name; nothing is allocated on it.

    Raises:
        SgfluxError: if this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SgfluxError(
            f"device must be 'auto', or one of torch's, like 'cpu', 'cuda', 'cuda:1' or 'mps', "
            f"got {name!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SgfluxError(f"device is {name!r}, but this torch sees no CUDA device; use 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SgfluxError(
            f"device is {name!r}, but there are {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SgfluxError(f"device is {name!r}, but this torch sees no MPS device; use 'cpu'")
    return device


def resolve_device(name: str) -> torch.device:
    """``auto`` as CUDA where there is one, else the CPU; any other name as it is.

    Raises:
        SgfluxError: if this machine has no such device, or cannot allocate on it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = usable_device(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SgfluxError(f"device {name!r} cannot be used: {error}") from error
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` as bf16 on an accelerator and fp32 on the CPU; else ``fp32`` or ``bf16``."""
    if name == "auto":
        name = "fp32" if device.type == "cpu" else "bf16"
    return DTYPES[name]
