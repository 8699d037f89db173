"""Generated pictures: PNG files that say how they were made, and sheets of several of them."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from sgflux.data.files import expect_file
from sgflux.errors import SgfluxError
from sgflux.files.writing import replace_file

INFO_KEY = "sgflux"
"""The PNG text chunk that holds how a picture was made, as JSON."""

_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""What a whole file of a kind has near its end."""
_TAIL = 4096
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)

_PAPER, _INK, _FRAME = (250, 250, 248), (38, 38, 42), (212, 212, 208)
_SMALL = 176  # pixels: what is narrower is enlarged on a sheet
_MAX_COLUMNS = 12  # a longer row of a sheet goes on below
_SHEET_PIXELS = 64_000_000  # what a sheet's pictures have in all, unless they became illegible
_LEGIBLE = 64  # pixels


def save_picture(
    path: str | os.PathLike[str], image: np.ndarray | Image.Image, info: Mapping[str, Any]
) -> None:
    """Write a PNG with ``info`` in it, all of it or nothing.

    Args:
        path: File to write; its folder is made if need be.
        image: (H, W, 3) uint8, or an RGB picture.
        info: plain JSON, stored under :data:`INFO_KEY`.

    Raises:
        SgfluxError: if it cannot be written.
    """
    # Not forced to the disk, unlike other files: there are thousands, and one that a power failure
    # cut off is found out when it is read.
    replace_file(path, picture_bytes(image, info), durable=False)


def picture_bytes(image: np.ndarray | Image.Image, info: Mapping[str, Any]) -> bytes:
    """Return what :func:`save_picture` writes."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(INFO_KEY, json.dumps(info, ensure_ascii=False, sort_keys=True, allow_nan=False))
    content = io.BytesIO()
    _as_image(image).save(content, format="PNG", pnginfo=text)
    return content.getvalue()


def read_picture(path: str | os.PathLike[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a picture that :func:`save_picture` wrote, and how it was made.

    Returns:
        (H, W, 3) uint8, and its ``info``.

    Raises:
        SgfluxError: naming the file, if it is missing, broken, truncated, or says nothing.
    """
    expect_file(path)
    broken = f"{os.fspath(path)!r} is no whole picture with its {INFO_KEY!r} text"
    with naming_broken(broken), Image.open(path) as image:
        image.load()
        info = json.loads(image.text[INFO_KEY])  # type: ignore[attr-defined]
        return np.asarray(image.convert("RGB")), info


@contextmanager
def naming_broken(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a broken file into one line, which begins with ``what``.

    Raises:
        SgfluxError: in place of any other error of the block.
    """
    try:
        yield
    except SgfluxError:
        raise
    except Exception as error:
        raise SgfluxError(f"{what}: {error or type(error).__name__}") from error


def header_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) of an opened picture once it is upright, from its header alone."""
    width, height = image.size
    is_lying = image.getexif().get(_ORIENTATION, 1) in _LYING
    return (height, width) if is_lying else (width, height)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of any upright picture, from its header; check its ending, too.

    Raises:
        SgfluxError: naming the file, if it is missing, no picture, or ends too early.
    """
    expect_file(path)
    with naming_broken(f"the picture {os.fspath(path)!r} cannot be read"):
        with Image.open(path) as image:
            kind, size = image.format, header_size(image)
        if kind in _ENDINGS:
            with Path(path).open("rb") as file:
                file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
                whole = _ENDINGS[kind] in file.read()
            if not whole:
                raise SgfluxError(f"the picture {os.fspath(path)!r} is cut off: it has no ending")
    return size


def tile(image: np.ndarray | Image.Image, *, count: int) -> Image.Image:
    """Return a picture as one of ``count`` on a contact sheet, smaller if they were too many.

    Args:
        image: (H, W, 3) uint8, or an RGB picture.
        count: pictures of the sheet.
    """
    whole = _as_image(image)
    factor = math.sqrt(_SHEET_PIXELS / (count * whole.width * whole.height))
    factor = max(factor, _LEGIBLE / min(whole.size))
    if factor >= 1:
        return whole
    size = (max(1, round(whole.width * factor)), max(1, round(whole.height * factor)))
    return whole.resize(size, Image.Resampling.LANCZOS)


def contact_sheet(
    images: Sequence[np.ndarray | Image.Image],
    captions: Sequence[str],
    *,
    columns: int,
    scale: int | None = None,
) -> Image.Image:
    """Draw pictures of one size in rows, each with its caption below; long rows are wrapped.

    Args:
        images: (H, W, 3) uint8, or RGB pictures.
        captions: one each; wrapped to the picture's width.
        columns: pictures that belong in a row; after more than 12 the row is wrapped.
        scale: whole factor by which the pictures are enlarged; None: what makes small ones
            legible.

    Raises:
        SgfluxError: if there is no picture, the numbers or sizes differ, or ``columns`` or
            ``scale`` is less than 1.
    """
    if not images or len(images) != len(captions):
        raise SgfluxError(
            "a contact sheet needs pictures and one caption each, "
            f"got {len(images)} and {len(captions)}"
        )
    tiles = [_as_image(image) for image in images]
    if len({tile.size for tile in tiles}) > 1:
        sizes = sorted({tile.size for tile in tiles})
        raise SgfluxError(f"the pictures of a contact sheet must have one size, got {sizes}")
    width, height = tiles[0].size
    scale = max(1, round(_SMALL / width)) if scale is None else scale
    if columns < 1 or scale < 1:
        raise SgfluxError(f"columns and scale must be at least 1, got {columns} and {scale}")
    row_length = min(columns, len(tiles))
    columns = min(row_length, _MAX_COLUMNS)
    width, height = width * scale, height * scale
    size = min(26, max(13, width // 22))
    font = ImageFont.load_default(size)
    texts = [_wrapped(caption, font, width) for caption in captions]
    line, gap = round(size * 1.3), max(10, width // 16)
    rows = [
        range(start, min(start + columns, first + row_length, len(tiles)))
        for first in range(0, len(tiles), row_length)
        for start in range(first, min(first + row_length, len(tiles)), columns)
    ]
    depths = [height + size // 2 + line * max(len(texts[i]) for i in row) + gap for row in rows]
    sheet = Image.new("RGB", (gap + columns * (width + gap), gap + sum(depths)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, depth in zip(rows, depths, strict=True):
        for column, index in enumerate(row):
            left = gap + column * (width + gap)
            tile = tiles[index]
            if scale > 1:
                tile = tile.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left, top))
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_FRAME)
            for number, words in enumerate(texts[index]):
                at = (left, top + height + size // 2 + number * line)
                draw.text(at, words, fill=_INK, font=font)
        top += depth
    return sheet


def _as_image(image: np.ndarray | Image.Image) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise SgfluxError(f"a picture must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        return Image.fromarray(image)
    return image.convert("RGB")


def _wrapped(
    caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Return the caption in lines that fit; its own line breaks stay."""
    lines = []
    for paragraph in caption.split("\n"):
        current = ""
        for word in paragraph.split():
            longer = f"{current} {word}".strip()
            if current and font.getlength(longer) > width:
                lines.append(current)
                longer = word
            current = longer
        lines.append(current)
    return lines
