"""Pictures: any file as 8-bit RGB, and any picture as a tensor of one size.

Shapes: images (3, H, W) float32 in [-1, 1].
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sgflux.data.boxes import Box, union_box
from sgflux.data.files import UnreadableFileError, expect_file, resolve_path
from sgflux.data.pictures import header_size, naming_broken
from sgflux.data.progress import in_threads
from sgflux.errors import SgfluxError
from sgflux.settings.shared import Crop

CROPS: tuple[Crop, ...] = get_args(Crop)
"""How a picture meets a size of another shape.

- auto: the shape of what is shown is kept: all of a picture that has the size's shape already, else
  a window around the union of the boxes, with a margin where there is room for one, else (without
  boxes) the middle;
- none: all of it, squashed;
- center: the largest window of the size's shape, in the middle;
- union: the union of the boxes with a margin, extended to the size's shape as far as the picture
  goes (only what is still missing then is squashed), so that no object is cut off.
"""

UNION_MARGIN = 0.1
"""Margin on each side of a union crop, as a part of the union's width and height."""

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: decoding one takes hundreds of megabytes (Pillow warns at 89M)."""

MAX_BYTES = 512 * 2**20
"""Larger files are refused unread: the largest picture takes less, uncompressed in 16 bits."""

_NOTICED = 1.02
"""Pictures whose shape is changed by less than 2 % are not said to be squashed."""

Window = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, right and bottom exclusive."""


def load_image(path: str | os.PathLike[str], *, mirrored: bool = False) -> Image.Image:
    """Read a picture as upright 8-bit RGB.

    EXIF orientation is applied; transparency is put on white; gray, palette, CMYK and 16-bit
    pictures are converted (16 bits are scaled, not cut); of an animation, the first frame counts.

    Args:
        path: the file.
        mirrored: give the upright picture's mirror image, left and right exchanged.

    Raises:
        SgfluxError: naming the file, if it is missing, no picture, truncated or too large.
    """
    return decode_image(read_image_bytes(path), name=path, mirrored=mirrored)


def read_image_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a picture's file.

    Raises:
        SgfluxError: naming the file, if it cannot be read or is larger than ``MAX_BYTES``.
    """
    try:
        size = expect_file(path).st_size
        if size > MAX_BYTES:
            raise SgfluxError(
                f"the picture {os.fspath(path)!r} is of no use: its file has {size} bytes, more "
                f"than {MAX_BYTES}"
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableFileError(
            f"the picture {os.fspath(path)!r} cannot be read: {error.strerror or error}"
        ) from error


def image_digest(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hex, which identifies a picture in a cache."""
    return hashlib.sha256(data).hexdigest()


def decode_image(
    data: bytes, *, name: str | os.PathLike[str], mirrored: bool = False
) -> Image.Image:
    """Decode the content of the file called ``name``, as :func:`load_image` does."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SgfluxError(
                    f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS}"
                )
            image.load()
            upright = _to_rgb(ImageOps.exif_transpose(image))
            return ImageOps.mirror(upright) if mirrored else upright
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SgfluxError(f"the picture {os.fspath(name)!r} is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise SgfluxError(f"{os.fspath(name)!r} is no picture that Pillow knows") from error
    except SgfluxError as error:
        raise SgfluxError(f"the picture {os.fspath(name)!r} is of no use: {error}") from error
    except Exception as error:  # Decoders raise anything at all on broken files.
        raise SgfluxError(
            f"the picture {os.fspath(name)!r} cannot be decoded "
            f"(broken or truncated?): {error or type(error).__name__}"
        ) from error


def upright_size(data: bytes, *, name: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of the upright picture in a content, from its header alone.

    Raises:
        SgfluxError: naming the file, if it is no picture.
    """
    broken = f"{os.fspath(name)!r} is no picture that Pillow knows"
    with naming_broken(broken), Image.open(io.BytesIO(data)) as image:
        return header_size(image)


def picture_sizes(
    paths: Iterable[str], images_dir: str | os.PathLike[str], *, progress: bool = False
) -> dict[str, tuple[int, int] | SgfluxError]:
    """Decode the pictures whole; return (width, height) of each, upright, or its error.

    Decoding runs in one thread a core.

    Args:
        paths: Paths below ``images_dir``.
        images_dir: the folder of the pictures.
        progress: show a bar on stderr.
    """
    names = list(dict.fromkeys(paths))

    def size(name: str) -> tuple[int, int] | SgfluxError:
        try:
            return load_image(resolve_path(name, images_dir)).size
        except SgfluxError as error:
            return error

    return dict(in_threads(size, names, "pictures", show=progress))


def shown(
    size: tuple[int, int], *, height: int, width: int, crop: Crop, box: Box | None = None
) -> tuple[Crop, Box | None]:
    """Return the crop that ``auto`` is for one picture; any other crop is what it is.

    A picture that auto shows as another crop does is that crop's in a cache, too.

    Args:
        size: the picture's (width, height).
        height: the height to which the window is scaled.
        width: the width to which it is scaled.
        crop: Name of the rule that chooses the window.
        box: the union of the boxes, for ``union`` and ``auto``.

    Returns:
        The crop, and the box if it needs it; ``auto`` remains where the union's window would have
        another shape than the size.
    """
    if crop != "auto":
        return crop, box
    if _fitting(size, height, width) == size:
        return "none", None
    if box is None:
        return "center", None
    left, top, right, bottom = crop_window(size, height=height, width=width, crop="union", box=box)
    # Whole pixels are at most one off on each side.
    is_kept = abs((right - left) - (bottom - top) * width / height) <= max(
        2.0, 2.0 * width / height
    )
    return ("union" if is_kept else "auto"), box


def crop_box(boxes: Sequence[Box] | None, crop: Crop, *, name: str) -> Box | None:
    """Return the box that a crop needs, the union of a row's boxes; None if it needs none.

    Args:
        boxes: the boxes of the row's objects, or None.
        crop: Name of the crop; ``union`` needs boxes, ``auto`` uses them.
        name: Name of the row in an error.

    Raises:
        SgfluxError: if the crop needs boxes and the row has none.
    """
    if crop == "union" and boxes is None:
        raise SgfluxError(
            f"{name} has no boxes, which the crop 'union' needs; use 'auto' or 'center'"
        )
    return union_box(boxes) if boxes is not None and crop in ("union", "auto") else None


def squash(window: Window, *, height: int, width: int) -> float:
    """Return the factor, at least 1, by which scaling to a size changes the shape of a window."""
    left, top, right, bottom = window
    factor = ((right - left) / (bottom - top)) / (width / height)
    return max(factor, 1 / factor)


def squash_line(factors: Sequence[float], to: str) -> str | None:
    """Return how many pictures are squashed, in words; None where hardly one is.

    Args:
        factors: Result of :func:`squash` for each picture.
        to: the size, in words.
    """
    squashed = [factor for factor in factors if factor > _NOTICED]
    if not squashed:
        return None
    return (
        f"{len(squashed)} of {len(factors)} pictures are squashed to {to}, by up to "
        f"{max(squashed):.2f} times (the crop 'auto' keeps their shape)"
    )


def crop_window(
    size: tuple[int, int], *, height: int, width: int, crop: Crop, box: Box | None = None
) -> Window:
    """Return which part of a picture a crop shows; see :data:`CROPS`.

    Args:
        size: the picture's (width, height).
        height: the height to which the window is scaled.
        width: the width to which it is scaled.
        crop: Name of the rule that chooses the window.
        box: the union of the boxes, for ``union`` and ``auto`` (which does without, too); what is
            outside the picture is ignored.

    Raises:
        SgfluxError: on an unknown ``crop``, a size below 1, a missing or a superfluous ``box``,
            or one that does not meet the picture.
    """
    if crop not in CROPS:
        raise SgfluxError(f"crop must be one of {list(CROPS)}, got {crop!r}")
    if height < 1 or width < 1:
        raise SgfluxError(f"height and width must be at least 1, got {height} and {width}")
    if crop != "auto" and (box is not None) != (crop == "union"):
        raise SgfluxError(
            f"a box goes with crop 'union' (and may go with 'auto') only: {crop!r}, {box!r}"
        )
    full_width, full_height = size
    crop, box = shown(size, height=height, width=width, crop=crop, box=box)
    if crop == "none":
        return 0, 0, full_width, full_height
    fit_width, fit_height = _fitting(size, height, width)
    if box is None:
        left, top = (full_width - fit_width) // 2, (full_height - fit_height) // 2
        return left, top, left + fit_width, top + fit_height
    x, y, box_width, box_height = box
    if x >= full_width or y >= full_height or x + box_width <= 0 or y + box_height <= 0:
        raise SgfluxError(
            f"the box {list(box)} lies outside the picture of {full_width} x {full_height} pixels"
        )
    if crop == "auto":
        # As much of the union as a window of the right shape can have, around its middle.
        left = round(min(max(x + (box_width - fit_width) / 2, 0), full_width - fit_width))
        top = round(min(max(y + (box_height - fit_height) / 2, 0), full_height - fit_height))
        return left, top, left + fit_width, top + fit_height
    across = _clipped(x - box_width * UNION_MARGIN, x + box_width * (1 + UNION_MARGIN), full_width)
    down = _clipped(y - box_height * UNION_MARGIN, y + box_height * (1 + UNION_MARGIN), full_height)
    shape = width / height
    left, right = _extended(across, (down[1] - down[0]) * shape, full_width)
    top, bottom = _extended(down, (across[1] - across[0]) / shape, full_height)
    return left, top, right, bottom


def fit_image(
    image: Image.Image,
    height: int,
    width: int,
    *,
    crop: Crop = "auto",
    box: Box | None = None,
) -> Tensor:
    """Crop and scale (Lanczos) a picture to one size.

    Args:
        image: RGB.
        height: Height of the result in pixels.
        width: Width of the result in pixels.
        crop: Name of the crop, one of :data:`CROPS`.
        box: the union of the boxes (x, y, width, height), for crop ``union`` and ``auto``.

    Returns:
        (3, height, width) float32 in [-1, 1].

    Raises:
        SgfluxError: as :func:`crop_window`; if ``image`` is not RGB.
    """
    if image.mode != "RGB":
        raise SgfluxError(f"fit_image needs an RGB picture, got the mode {image.mode!r}")
    window = crop_window(image.size, height=height, width=width, crop=crop, box=box)
    fitted = image.resize((width, height), Image.Resampling.LANCZOS, box=window)
    pixels = torch.from_numpy(np.array(fitted, dtype=np.uint8))
    return pixels.permute(2, 0, 1).to(torch.float32).div(127.5).sub(1.0).contiguous()


def _fitting(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Return (width, height) of the largest window of the right shape, at least one pixel."""
    scale = min(size[0] / width, size[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _clipped(start: float, stop: float, limit: int) -> tuple[float, float]:
    return max(start, 0.0), min(stop, float(limit))


def _extended(span: tuple[float, float], wanted: float, limit: int) -> tuple[int, int]:
    """Return the whole pixels of a span of at least ``wanted``, as far as [0, limit] allows."""
    start, stop = span
    length = min(max(wanted, stop - start), limit)
    start = min(max((start + stop - length) / 2, 0.0), limit - length)
    first = min(math.floor(start + 1e-6), limit - 1)
    return first, min(limit, max(first + 1, math.ceil(start + length - 1e-6)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise SgfluxError("it has floating-point pixels, whose range is unknown")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        front = image.convert("RGBA")
        white = Image.new("RGBA", front.size, "white")
        return Image.alpha_composite(white, front).convert("RGB")
    return image.convert("RGB")
