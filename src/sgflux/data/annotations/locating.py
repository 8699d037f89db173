"""Where the pictures of annotations are: at their paths, or wherever people put them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from sgflux.data.annotations.table import Annotations
from sgflux.errors import SgfluxError


def located(table: Annotations, images_dir: Path) -> Annotations:
    """Return the table with the paths at which the pictures really are.

    A picture that is not at its path is looked for by its file's name in the annotations' folders.
    What is found there is counted as a quirk; what is nowhere keeps its path.
    """
    files = Listing(images_dir)
    paths, moved = [], 0
    for path in table.images.paths:
        if path not in files:
            name = path.rpartition("/")[2]
            places = (f"{folder}/{name}" if folder else name for folder in table.folders)
            found = next((place for place in places if place in files), None)
            moved += found is not None
            path = path if found is None else found
        paths.append(path)
    if moved:
        table.quirks["pictures found in another folder than their url's"] += moved
    return replace(table, images=replace(table.images, paths=paths))


def missing_files(table: Annotations, images_dir: Path) -> np.ndarray:
    """Return which images have no file, (I,) bool.

    Raises:
        SgfluxError: if none has.
    """
    files = Listing(images_dir)
    missing = [path not in files for path in table.images.paths]
    if missing and all(missing):
        raise SgfluxError(
            f"none of the {len(missing)} pictures is in {str(images_dir)!r}, for example "
            f"{table.images.paths[0]!r}; give the folder that has them as --images-dir"
        )
    return np.array(missing, dtype=bool)


class Listing:
    """Which files there are below a folder; every folder is listed once, when it is asked for."""

    def __init__(self, root: Path) -> None:
        """List nothing yet."""
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def __contains__(self, path: str) -> bool:
        """Whether there is a file at a path below the root; a link to nothing is none."""
        folder, _, name = path.rpartition("/")
        if folder not in self._names:
            self._names[folder] = frozenset(self._listed(self._root / folder))
        return name in self._names[folder]

    def _listed(self, folder: Path) -> Iterator[str]:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_symlink() or Path(entry.path).exists():
                        yield entry.name
