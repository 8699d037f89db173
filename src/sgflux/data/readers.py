"""Readers: what turns the files of a source into annotations. A reader is one file and one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sgflux.data.annotations.table import Annotations
from sgflux.data.visual_genome.h5 import read_h5
from sgflux.data.visual_genome.raw import read_raw
from sgflux.errors import SgfluxError


class Reader(Protocol):
    """Reads the files of one kind of source."""

    def __call__(self, paths: Sequence[Path]) -> Annotations:
        """Read everything that is annotated.

        Args:
            paths: the files or folders, as the user names them.

        Raises:
            SgfluxError: naming the file and the place in it, if it is missing or damaged.
        """


READERS: dict[str, Reader] = {
    "visual-genome-raw": read_raw,
    "visual-genome-h5": read_h5,
}
"""Name on the command line -> the reader."""


def find_reader(name: str) -> Reader:
    """Return the reader with this name.

    Raises:
        SgfluxError: if there is none.
    """
    if name not in READERS:
        raise SgfluxError(f"reader must be one of {list(READERS)}, got {name!r}")
    return READERS[name]
