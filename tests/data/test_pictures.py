"""Generated pictures on disk, and sheets of them.

If one of these failed, a saved picture would lose its record, or a sheet would show pictures
under the wrong captions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgflux.data.pictures import contact_sheet, read_picture, save_picture, tile
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


def test_hundreds_of_pictures_are_wrapped_and_shrunk() -> None:
    picture = np.zeros((1024, 1024, 3), dtype=np.uint8)
    small = tile(picture, count=300)
    assert small.size == (462, 462), "300 of them are 64 million pixels"
    assert tile(picture, count=40).size == (1024, 1024), "a few stay what they are"
    assert tile(picture, count=10**7).size == (64, 64), "and none becomes illegible"
    tiny = [np.full((16, 16, 3), 9, dtype=np.uint8)] * 300
    sheet = contact_sheet(tiny, ["x"] * 300, columns=300, scale=1)
    assert sheet.width < 13 * (16 + 10) + 10, "one row would be 300 pictures wide"
    assert (np.asarray(sheet) == 9).all(axis=2).sum() >= 300 * 16 * 16


def test_a_long_row_is_wrapped_before_the_next_one_begins() -> None:
    images = [np.full((16, 16, 3), value, dtype=np.uint8) for value in range(26)]
    sheet = np.asarray(contact_sheet(images, ["x"] * 26, columns=13, scale=1))
    tops = [int(np.argwhere((sheet == value).all(axis=2))[0][0]) for value in (0, 11, 12, 13, 25)]
    assert tops[0] == tops[1] < tops[2] < tops[3] < tops[4]
