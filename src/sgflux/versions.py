"""Versions of installed libraries, for records of a result."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of installed distributions; that of torch says its build, like 2.13.0+cpu.

    An ordinary wheel of torch for Linux is "2.13.0" in its metadata and "2.13.0+cu130" in torch
    itself: the second is what decides over results.
    """
    return {name: _torch() if name == "torch" else metadata.version(name) for name in names}


def _torch() -> str:
    import torch

    return str(torch.__version__)
