"""How benchmarks write their figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.files.writing import replacing


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, in a folder that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def expect_same(path: Path, settings: Mapping[str, Any], *, way_out: str) -> None:
    """Keep what the content of a folder depends on, or check that it still is the same.

    Args:
        path: JSON file of the settings; it is written if it is not there.
        settings: Name -> value, as JSON has it.
        way_out: Advice on what a user can do about a difference.

    Raises:
        SgfluxError: naming all settings that differ.
    """
    settings = json.loads(json.dumps(settings))
    if not path.is_file():
        write_json(path, settings)
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    differing = [
        f"{name} was {known.get(name)!r}, is {settings.get(name)!r}"
        for name in sorted({*known, *settings})
        if known.get(name) != settings.get(name)
    ]
    if differing:
        raise SgfluxError(f"{path}: {'; '.join(differing)}; {way_out}")
