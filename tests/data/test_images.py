"""Pictures: every mode becomes upright RGB, bad files are named, crops show what they claim.

If one of these failed, pictures would be trained on sideways, in wrong colours, or cropped so
that an object of the graph is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgflux.data.boxes import Box, union_box
from sgflux.data.images import (
    MAX_BYTES,
    crop_window,
    fit_image,
    load_image,
    shown,
    squash,
    squash_line,
)
from sgflux.errors import SgfluxError
from tests.helpers.rows import write_picture


def pixel(path: Path, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = load_image(path)
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_exif_orientation_is_applied(tmp_path: Path):
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    upright = load_image(tmp_path / "a.png")
    assert upright.size == (2, 4)
    assert upright.getpixel((1, 0)) == (255, 255, 255)


def test_transparency_is_put_on_white(tmp_path: Path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 51)).save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 1), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    assert pixel(tmp_path / "rgba.png") == (255, 255, 255)
    assert pixel(tmp_path / "la.png") == (204, 204, 204)
    assert pixel(tmp_path / "p.png") == (255, 255, 255)
    assert pixel(tmp_path / "p.png", (1, 1)) == (0, 255, 0)


def test_gray_bilevel_and_cmyk(tmp_path: Path):
    Image.new("L", (2, 2), 77).save(tmp_path / "l.png")
    Image.new("1", (2, 2), 1).save(tmp_path / "1.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert pixel(tmp_path / "l.png") == (77, 77, 77)
    assert pixel(tmp_path / "1.png") == (255, 255, 255)
    red = pixel(tmp_path / "cmyk.jpg")
    assert red[0] > 240
    assert max(red[1:]) < 15


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path):
    values = np.array([[0, 128 * 257], [257, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        assert [pixel(tmp_path / name, (x, y))[0] for y in (0, 1) for x in (0, 1)] == [
            0,
            128,
            1,
            255,
        ]


def test_the_first_frame_of_an_animation_counts(tmp_path: Path):
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixel(tmp_path / "a.gif") == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_picture_is_named(tmp_path: Path, suffix: str):
    whole = write_picture(tmp_path / f"whole.{suffix}", size=(64, 64)).read_bytes()
    for share in (0.02, 0.5, 0.9):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SgfluxError, match=rf"cut\.{suffix}"):
            load_image(cut)


def test_other_useless_files_are_named(tmp_path: Path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tiff")
    for name, message in (
        ("none.jpg", "cannot be read: No such file"),
        (".", "cannot be read"),
        ("text.jpg", "is no picture"),
        ("empty.jpg", "is no picture"),
        ("float.tiff", "floating-point"),
    ):
        with pytest.raises(SgfluxError, match=message):
            load_image(tmp_path / name)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path):
    Image.new("1", (10_000, 8_001)).save(tmp_path / "large.png")
    with pytest.raises(SgfluxError, match=r"large\.png.*10000 x 8001"):
        load_image(tmp_path / "large.png")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "endless.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room on the disk
    with pytest.raises(SgfluxError, match=r"endless\.jpg.*536870913 bytes, more than"):
        load_image(path)


def test_an_unfitting_size_is_squashed_by_none_and_cut_by_center():
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:20, 1] = pixels[:, 20:, 2] = 255
    image = Image.fromarray(pixels)
    whole = fit_image(image, 10, 10, crop="none")
    assert whole[0, 5, 0] > 0.9
    assert whole[2, 5, 9] > 0.9
    middle = fit_image(image, 10, 10, crop="center")
    assert torch.equal(middle[1], torch.ones(10, 10))
    assert torch.equal(middle[0], -torch.ones(10, 10))


def test_a_picture_of_the_right_size_is_only_scaled_in_value(tmp_path: Path):
    image = load_image(write_picture(tmp_path / "a.png", size=(12, 8)))
    fitted = fit_image(image, 8, 12, crop="center")
    assert fitted.shape == (3, 8, 12)
    assert fitted.dtype == torch.float32
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(fitted, expected)
    assert fitted.min() >= -1
    assert fitted.max() <= 1


def test_a_union_crop_has_a_margin_and_the_shape_of_the_size():
    # 20 x 20 plus 10 % a side is 24 x 24 about (50, 50).
    assert crop_window((100, 100), height=8, width=8, crop="union", box=(40, 40, 20, 20)) == (
        38,
        38,
        62,
        62,
    )
    # For a size twice as wide, it grows to 48 x 24 about the same centre.
    assert crop_window((100, 100), height=8, width=16, crop="union", box=(40, 40, 20, 20)) == (
        26,
        38,
        74,
        62,
    )


def test_a_union_crop_at_the_border_moves_inwards_and_keeps_every_object():
    window = crop_window((100, 50), height=8, width=8, crop="union", box=(0, 10, 10, 30))
    # 36 high with its margin; as wide, from the border on.
    assert window == (0, 7, 36, 43)
    # Wider than the picture is high: nothing is cut off, the shape gives way.
    assert crop_window((100, 50), height=8, width=8, crop="union", box=(0, 0, 100, 50)) == (
        0,
        0,
        100,
        50,
    )
    # What a box has outside of the picture is ignored.
    assert crop_window((100, 50), height=8, width=8, crop="union", box=(-30, -5, 200, 500)) == (
        0,
        0,
        100,
        50,
    )


def test_random_union_crops_lie_in_the_picture_and_contain_the_box():
    rng = np.random.default_rng(0)
    for _ in range(500):
        size = tuple(int(n) for n in rng.integers(1, 60, 2))
        x, y = rng.uniform(0, size[0] - 0.5), rng.uniform(0, size[1] - 0.5)
        box = (x, y, rng.uniform(0.1, size[0] - x), rng.uniform(0.1, size[1] - y))
        height, width = (int(n) for n in rng.integers(1, 20, 2))
        left, top, right, bottom = crop_window(
            size, height=height, width=width, crop="union", box=box
        )
        assert 0 <= left <= box[0] + 1e-5
        assert 0 <= top <= box[1] + 1e-5
        assert box[0] + box[2] - 1e-5 <= right <= size[0]
        assert box[1] + box[3] - 1e-5 <= bottom <= size[1]
        assert left < right
        assert top < bottom


def test_crop_settings_that_make_no_sense_are_errors():
    for arguments, message in (
        ({"crop": "middle"}, "crop must be one of"),
        ({"crop": "union"}, "a box goes with crop 'union'"),
        ({"crop": "center", "box": (0, 0, 1, 1)}, "a box goes with crop 'union'"),
        ({"crop": "union", "box": (9, 0, 1, 1)}, "outside the picture"),
    ):
        with pytest.raises(SgfluxError, match=message):
            crop_window((8, 8), height=4, width=4, **arguments)
    with pytest.raises(SgfluxError, match="at least 1"):
        crop_window((8, 8), height=0, width=4, crop="none")
    with pytest.raises(SgfluxError, match="mode 'L'"):
        fit_image(Image.new("L", (2, 2)), 2, 2)


def test_the_union_of_boxes():
    assert union_box([Box(1, 2, 3, 4), Box(0, 5, 1, 6)]) == (0, 2, 4, 9)
    with pytest.raises(SgfluxError, match="at least one box"):
        union_box([])


# --- the default crop ---------------------------------------------------------------------------


@pytest.mark.parametrize("box", [None, (1, 1, 3, 3), (0, 0, 16, 16)])
@pytest.mark.parametrize("size", [(16, 16), (32, 32), (500, 500)])
def test_auto_leaves_a_picture_of_the_right_shape_bit_for_bit_as_it_is(tmp_path, size, box):
    image = load_image(write_picture(tmp_path / "a.png", size=size))
    whole = fit_image(image, 16, 16, crop="none")
    assert torch.equal(fit_image(image, 16, 16, crop="auto", box=box), whole)
    assert torch.equal(fit_image(image, 16, 16, box=box), whole), "it is the default"
    assert shown(size, height=16, width=16, crop="auto", box=box) == ("none", None)


def test_auto_is_center_without_boxes_and_union_where_that_keeps_the_shape():
    size = (120, 60)
    arguments = {"height": 8, "width": 8}
    center = crop_window(size, crop="center", **arguments)
    assert crop_window(size, crop="auto", **arguments) == center
    assert shown(size, crop="auto", **arguments) == ("center", None)
    box = (80, 20, 20, 20)
    union = crop_window(size, crop="union", box=box, **arguments)
    assert crop_window(size, crop="auto", box=box, **arguments) == union
    assert shown(size, crop="auto", box=box, **arguments) == ("union", box)


def test_auto_cuts_a_union_that_no_window_of_the_shape_holds_instead_of_squashing_it():
    box = (10, 10, 100, 40)
    assert crop_window((120, 60), height=8, width=8, crop="union", box=box) == (0, 0, 120, 60)
    assert crop_window((120, 60), height=8, width=8, crop="auto", box=box) == (30, 0, 90, 60)
    assert shown((120, 60), height=8, width=8, crop="auto", box=box) == ("auto", box)
    with pytest.raises(SgfluxError, match="outside the picture"):
        crop_window((120, 60), height=8, width=8, crop="auto", box=(200, 0, 4, 4))


@given(
    st.tuples(st.integers(20, 3000), st.integers(20, 3000)),
    st.sampled_from(((64, 64), (512, 768), (1024, 512))),
    st.none() | st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0.01, 1)] * 2),
)
def test_auto_keeps_the_shape_of_everything(size, target, part):
    height, width = target
    box = None
    if part is not None:
        x, y = part[0] * (size[0] - 2), part[1] * (size[1] - 2)
        box = (x, y, max(1.0, part[2] * (size[0] - x)), max(1.0, part[3] * (size[1] - y)))
    window = crop_window(size, height=height, width=width, crop="auto", box=box)
    left, top, right, bottom = window
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    # Two whole pixels of rounding on the shorter side.
    shorter = min(right - left, bottom - top)
    assert squash(window, height=height, width=width) <= 1 + 4.5 / shorter


def test_squashing_is_measured_and_said():
    assert squash((0, 0, 200, 100), height=8, width=8) == squash(
        (0, 0, 100, 200), height=8, width=8
    )
    factors = [squash((0, 0, 640, 480), height=512, width=512), 1.0, 1.01]
    line = squash_line(factors, "512 x 512")
    assert line is not None
    assert line.startswith("1 of 3 pictures are squashed to 512 x 512, by up to 1.33 times")
    assert squash_line([1.0, 1.01], "8 x 8") is None
