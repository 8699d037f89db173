"""Pictures are read below their folder only."""

from __future__ import annotations

import os
from pathlib import Path

from sgflux.errors import SgfluxError


def resolve_path(relative: str, images_dir: str | os.PathLike[str]) -> Path:
    """Where a picture is: always inside ``images_dir``, symbolic links followed.

    The picture itself need not exist.

    Raises:
        SgfluxError: if ``images_dir`` is no folder, or the path is absolute, has a ``..``, or
            leads out of the folder through a link.
    """
    where = f"image_rel_path {relative!r}"
    try:
        root = Path(images_dir).resolve()
        if not root.is_dir():
            raise SgfluxError(f"the images folder {os.fspath(images_dir)!r} is no folder")
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise SgfluxError(
                f"{where} must be a path below the images folder {os.fspath(images_dir)!r}, "
                "without '..'"
            )
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, SgfluxError):
            raise
        raise SgfluxError(f"{where} is no usable path: {error}") from error
    if not path.is_relative_to(root) or path == root:
        raise SgfluxError(
            f"{where} leads to {str(path)!r}, outside the images folder {str(root)!r}; "
            "give the folder that really holds the pictures as images_dir"
        )
    return path
