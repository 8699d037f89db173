"""Generated pictures on disk, and sheets of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgflux.data.pictures import contact_sheet, read_picture, save_picture
from sgflux.errors import SgfluxError

PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def test_a_picture_keeps_its_pixels_and_how_it_was_made(tmp_path: Path) -> None:
    info = {"graph": {"objects": ["Bär", "dog"], "relationships": [[0, "on", 1]]}, "seed": 2**47}
    path = tmp_path / "deep" / "picture.png"
    save_picture(path, PICTURE, info)
    pixels, found = read_picture(path)
    assert np.array_equal(pixels, PICTURE)
    assert found == info
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"], "no leftovers"
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_broken_and_foreign_pictures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    save_picture(path, PICTURE, {})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SgfluxError, match=r"picture\.png"):
        read_picture(path)
    Image.fromarray(PICTURE).save(path)
    with pytest.raises(SgfluxError, match="sgflux"):
        read_picture(path)


def test_a_sheet_holds_every_picture_enlarged() -> None:
    images = [np.full((64, 64, 3), value, dtype=np.uint8) for value in (0, 100, 200)]
    captions = ["man riding horse", "a much longer caption that needs several lines", "x"]
    sheet = contact_sheet(images, captions, columns=2, scale=2)
    assert sheet.width > 2 * 128
    assert sheet.height > 2 * 128
    pixels = np.asarray(sheet)
    for value in (0, 100, 200):
        assert (pixels == value).all(axis=2).sum() >= 128 * 128 * 0.99


@pytest.mark.parametrize(
    ("images", "captions", "columns", "message"),
    [
        ([], [], 1, "one caption each"),
        ([PICTURE], [], 1, "one caption each"),
        ([PICTURE, PICTURE[:4]], ["a", "b"], 1, "one size"),
        ([PICTURE], ["a"], 0, "at least 1"),
        ([PICTURE.astype(np.float32)], ["a"], 1, "uint8"),
    ],
)
def test_impossible_sheets_are_refused(
    images: list[np.ndarray], captions: list[str], columns: int, message: str
) -> None:
    with pytest.raises(SgfluxError, match=message):
        contact_sheet(images, captions, columns=columns)
