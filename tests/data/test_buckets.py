"""The sizes of aspect buckets, which one a picture gets, and rows of several sizes.

If one of these failed, pictures would be squashed into a bucket of another shape, or a batch
would mix shapes.
"""

from __future__ import annotations

import math

import pytest
import torch

from sgflux.data.buckets import bucket_lines, bucket_sizes, nearest_size
from sgflux.data.cache.tensor_rows import JoinedRows, MemoryRows


def test_the_sizes_at_512_are_those_of_the_documentation() -> None:
    assert bucket_sizes(512, 512, multiple=16) == (
        (704, 368),
        (640, 416),
        (576, 448),
        (512, 512),
        (448, 576),
        (416, 640),
        (368, 704),
    )


@pytest.mark.parametrize("multiple", [8, 16, 32])
@pytest.mark.parametrize("size", [(64, 64), (512, 512), (512, 768), (1024, 1024), (384, 640)])
def test_every_size_is_a_multiple_with_about_the_area(size: tuple[int, int], multiple: int) -> None:
    sizes = bucket_sizes(*size, multiple=multiple)
    area = size[0] * size[1]
    assert size in sizes
    assert len(set(sizes)) == len(sizes)
    assert {(width, height) for height, width in sizes} == set(sizes)
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        assert 0.5 <= width / height <= 2
        # Rounding moves the shorter side by half a multiple at most; the square rounds both.
        assert abs(height * width / area - 1) <= 1.1 * multiple / min(height, width)


def test_a_size_of_an_extreme_shape_is_kept() -> None:
    assert (256, 1024) in bucket_sizes(256, 1024, multiple=16)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((500, 500), (512, 512)),
        ((640, 480), (448, 576)),
        ((480, 640), (576, 448)),
        ((1500, 1000), (416, 640)),
        ((1920, 1080), (368, 704)),
        ((3000, 500), (368, 704)),
        ((10, 4000), (704, 368)),
    ],
)
def test_a_picture_gets_the_nearest_ratio(picture: tuple[int, int], size: tuple[int, int]) -> None:
    assert nearest_size(picture, bucket_sizes(512, 512, multiple=16)) == size


def test_nearest_is_on_a_logarithmic_scale() -> None:
    """1.45 lies beyond the middle of 1 and 2 on that scale, where 1.41 is; plainly it does not."""
    assert nearest_size((145, 100), [(64, 64), (64, 128)]) == (64, 128)
    assert math.sqrt(2) > 1.4
    assert nearest_size((140, 100), [(64, 64), (64, 128)]) == (64, 64)


def test_the_table_counts_and_marks_what_is_less_than_a_batch() -> None:
    lines = bucket_lines([(16, 32), (32, 16), (16, 32)], batch_size=2)
    assert lines == [
        "32 x 16 pixels: 1 example (fewer than a batch of 2: its batches repeat some)",
        "16 x 32 pixels: 2 examples",
    ]


def test_joined_rows_give_the_rows_of_their_parts_and_never_of_two() -> None:
    first, second = torch.arange(6.0).view(3, 2), torch.arange(6.0).view(2, 3) + 10
    joined = JoinedRows([MemoryRows({"mean": first}), MemoryRows({"mean": second})])
    assert len(joined) == 5
    assert torch.equal(joined.rows(torch.tensor([2, 0]))["mean"], first[[2, 0]])
    assert torch.equal(joined.rows(torch.tensor([4, 3, 4]))["mean"], second[[1, 0, 1]])
    with pytest.raises(ValueError, match="one part at a time"):
        joined.rows(torch.tensor([2, 3]))
