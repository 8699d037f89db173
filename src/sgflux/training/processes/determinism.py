"""Deterministic kernels of a training run, for ``sgflux train --deterministic``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import patch_environment  # type: ignore[import-untyped]

from sgflux.errors import SgfluxError

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_WORKSPACE = ":4096:8"
"""Workspace with which cuBLAS is deterministic, as NVIDIA documents it."""


@contextmanager
def deterministic_kernels(enabled: bool) -> Iterator[None]:
    """Let PyTorch use only kernels whose results do not change from run to run.

    PyTorch's mode ``warn_only`` is not used: under it, the backward pass of its attention kernels
    stays non-deterministic. An operation without a deterministic kernel therefore ends the run with
    PyTorch's error, which names it. All settings are restored afterwards.

    Args:
        enabled: Whether to do anything at all.

    Raises:
        SgfluxError: if this process has used CUDA already, without cuBLAS's setting.
    """
    if not enabled:
        yield
        return
    is_set = CUBLAS_VARIABLE in os.environ
    if not is_set and torch.cuda.is_initialized():
        raise SgfluxError(
            f"deterministic: this process has used the GPU already, when {CUBLAS_VARIABLE} was not "
            f"set; set it to {CUBLAS_WORKSPACE} before the process starts"
        )
    before = torch.get_deterministic_debug_mode()
    with patch_environment(**({} if is_set else {CUBLAS_VARIABLE: CUBLAS_WORKSPACE})):
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
