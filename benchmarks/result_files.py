"""How benchmarks write their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgflux.files.writing import replacing


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, in a folder that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
