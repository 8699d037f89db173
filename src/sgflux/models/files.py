"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import uuid
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing; one that is there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
