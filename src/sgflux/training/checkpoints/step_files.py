"""The checkpoints in the folder of a run, by their names alone; torch is not imported."""

from __future__ import annotations

import re
from pathlib import Path

_STEP_FILE = re.compile(r"step(\d+)\.pt")


def step_files(output_dir: Path) -> dict[int, Path]:
    """Step -> checkpoint of a run, in the order of the steps."""
    found = {}
    for path in output_dir.glob("step*.pt"):
        match = _STEP_FILE.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))
