"""Trained adapters that the page offers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sgflux.models.bundle_folder import BUNDLED_ADAPTER, CONFIG_FILE, is_bundled

HOW_TO_GET_ONE = (
    "No adapter was found: one in a folder 'tiny' where the page was started has the name of the "
    "one that comes with sgflux, and there is none under {folder}. Start the page elsewhere, or "
    "train an adapter with 'sgflux demo'. Without one only the base model draws, which reads no "
    "graph."
)
"""Text of the page where there is no adapter."""

NONE_FOUND = (
    "No {what} was found below {folder}. 'sgflux demo' makes one below runs/ in the folder where "
    "it is started, and 'sgflux {command}' makes one in its --output-dir. 'sgflux page --runs "
    "FOLDER' looks elsewhere."
)
"""Text of a tab of the page that has nothing to show."""

_DEPTH = 5


def find_adapters(folder: Path) -> list[str]:
    """Return the adapters to choose from: the package's, then those below a folder, newest first.

    Args:
        folder: Folder of trainings, usually ``runs``; it need not be there.
    """
    bundled = [BUNDLED_ADAPTER] if is_bundled(BUNDLED_ADAPTER) else []
    return [*bundled, *find_runs(folder, CONFIG_FILE)]


def find_runs(folder: Path, name: str) -> list[str]:
    """Return the folders below ``folder`` that hold a file called ``name``, newest first."""
    found: dict[Path, float] = {}
    for path in _files(folder, name):
        with suppress(OSError):  # a run that is being deleted, or a link to one that is gone
            found[path] = path.stat().st_mtime
    return [path.parent.as_posix() for path in sorted(found, key=lambda path: -found[path])]


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Files of a name, not too deep; folders of pictures are not walked."""
    for root, folders, files in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        skipped = ("images", "pictures", "tensorboard", "cache")
        folders[:] = sorted(one for one in folders if depth < _DEPTH and one not in skipped)
        if name in files:
            yield Path(root) / name
