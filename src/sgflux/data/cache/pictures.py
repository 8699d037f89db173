"""The pictures of a data set as they are encoded: their files, and what a crop shows of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sgflux.data.boxes import Box
from sgflux.data.buckets import Size
from sgflux.data.cache.arrays import latent_key
from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import (
    Crop,
    Window,
    crop_box,
    crop_window,
    decode_image,
    fit_image,
    image_digest,
    read_image_bytes,
    shown,
    upright_size,
)
from sgflux.data.progress import in_threads
from sgflux.errors import SgfluxError, located

_LISTED = "`sgflux data check` finds all such rows"


@dataclass(frozen=True)
class PictureFile:
    """A picture's file.

    Attributes:
        path: File of the picture.
        sha256: SHA-256 of its content, in hex.
        size: (width, height) of the upright picture.
    """

    path: Path
    sha256: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """A picture to encode.

    Attributes:
        file: File of the picture.
        crop: the crop; not ``auto`` where that comes to another one.
        box: the union of the row's boxes, if the crop needs it.
        window: Part of the picture that the crop keeps.
        size: (height, width) to which the window is scaled.
        mirrored: whether it is the mirror image of the file.
        example: Name, in an error, of the first example that asks for it.
    """

    file: PictureFile
    crop: Crop
    box: Box | None
    window: Window
    size: Size
    mirrored: bool
    example: str

    def key(self, identity: str) -> str:
        """Return the key of its posterior by the encoder with this identity."""
        height, width = self.size
        return latent_key(
            self.file.sha256,
            crop=self.crop,
            box=self.box,
            height=height,
            width=width,
            identity=identity,
            mirrored=self.mirrored,
        )

    def load(self) -> Tensor:
        """Load the fitted picture, (3, height, width) float32 in [-1, 1]."""
        path = self.file.path
        with located(self.example):
            data = read_image_bytes(path)
            if image_digest(data) != self.file.sha256:
                raise SgfluxError(f"the picture {str(path)!r} changes while it is cached")
            image = decode_image(data, name=path, mirrored=self.mirrored)
            return fit_image(image, *self.size, crop=self.crop, box=self.box)

    def __str__(self) -> str:
        """The path of its file."""
        return str(self.file.path)


def read_files(
    examples: Sequence[SceneExample], images_dir: str | os.PathLike[str]
) -> dict[str, PictureFile]:
    """Read the pictures' files, ``image_rel_path`` -> file, in one thread a core.

    Raises:
        SgfluxError: naming the first row whose picture is missing or no picture.
    """
    rows: dict[str, int] = {}
    for row, example in enumerate(examples):
        rows.setdefault(example.image_rel_path, row)

    def look_at(row: int) -> PictureFile:
        try:
            path = resolve_image(examples[row], images_dir)
            data = read_image_bytes(path)
            return PictureFile(path, image_digest(data), upright_size(data, name=path))
        except SgfluxError as error:
            raise SgfluxError(f"{examples[row].named(row)}: {error}; {_LISTED}") from error

    found = in_threads(look_at, list(rows.values()), "pictures")
    return {examples[row].image_rel_path: file for row, file in found}


def fitted_picture(
    file: PictureFile, example: SceneExample, *, row: int, size: Size, crop: Crop
) -> Picture:
    """Return what is encoded of an example's picture.

    Args:
        file: the picture's file.
        example: the example.
        row: Index of the example in the data set, from 0.
        size: (height, width) to which the picture is fitted.
        crop: Name of the crop.

    Raises:
        SgfluxError: naming the example, if it lacks the boxes that the crop needs or they do not
            meet the picture.
    """
    height, width = size
    name = example.named(row)
    box = crop_box(example.boxes, crop, name=name)
    with located(name):
        own, box = shown(file.size, height=height, width=width, crop=crop, box=box)
        window = crop_window(file.size, height=height, width=width, crop=own, box=box)
    return Picture(file, own, box, window, size, example.is_mirrored, name)
