"""The log of tiny-flux's recipe."""

from __future__ import annotations

import time

from sgflux.files.writing import naming_disk_errors
from sgflux.settings.world_models import TrainBaseConfig


def log(config: TrainBaseConfig, message: str) -> None:
    """Print a line with the time and add it to the output folder's ``train.log``."""
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
    print(line, flush=True)
    path = config.output_dir / "train.log"
    with naming_disk_errors(path), path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
