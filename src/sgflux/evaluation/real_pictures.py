"""The test set's own pictures: each file's bytes are hashed when they are first read.

The judge and the ranking accuracy read the same files at different times. Whoever reads one again
gets the bytes that were hashed, or an error: the digest in the results is of what was measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import decode_image, image_digest, read_image_bytes
from sgflux.errors import SgfluxError


def any_picture(examples: Iterable[SceneExample], images_dir: Path) -> bool:
    """Whether any example's picture is there; a set without pictures has graphs alone.

    Where some are missing, whoever reads them says which.
    """
    return any(resolve_image(example, images_dir).exists() for example in examples)


class RealPictures:
    """Reads the pictures of a test set.

    Attributes:
        images_dir: root of the examples' image paths.
        digests: image path -> SHA-256 of its file, in hex, of every file read so far.
    """

    def __init__(self, images_dir: Path) -> None:
        """Read nothing yet."""
        self.images_dir = images_dir
        self.digests: dict[str, str] = {}

    def load(self, example: SceneExample) -> Image.Image:
        """Load the example's picture, upright, and mirrored if the row says so.

        Raises:
            SgfluxError: if it cannot be read, or is not the file that was read before.
        """
        path = resolve_image(example, self.images_dir)
        data = read_image_bytes(path)
        self._note(example.image_rel_path, image_digest(data))
        return decode_image(data, name=path, mirrored=example.is_mirrored)

    def pixels(self, example: SceneExample) -> np.ndarray:
        """Load the example's picture as an array, (H, W, 3) uint8."""
        return np.asarray(self.load(example))

    def summary(self) -> str | None:
        """Return one SHA-256 of the sorted digests of the pictures read so far; None if of none."""
        if not self.digests:
            return None
        every = sorted(set(self.digests.values()))
        return hashlib.sha256("\n".join(every).encode()).hexdigest()

    def digest(self, example: SceneExample) -> str:
        """Return the SHA-256 of the file of the example's picture, in hex; it is read once.

        Raises:
            SgfluxError: if it cannot be read.
        """
        name = example.image_rel_path
        if name not in self.digests:
            data = read_image_bytes(resolve_image(example, self.images_dir))
            self._note(name, image_digest(data))
        return self.digests[name]

    def _note(self, name: str, digest: str) -> None:
        if self.digests.setdefault(name, digest) != digest:
            raise SgfluxError(
                f"the picture {str(self.images_dir / name)!r} has changed since this evaluation "
                "first read it; leave the test data alone while it runs, and start it again"
            )
