"""Where a relation is, from the rows' boxes, on the grid of image tokens.

Shapes: S = rows * columns image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sgflux.data.boxes import Box, Layout
from sgflux.data.buckets import Size
from sgflux.data.examples import SceneExample
from sgflux.data.images import Crop
from sgflux.data.layouts import shown_windows
from sgflux.errors import SgfluxError


def box_coverage(
    boxes: Sequence[Box], *, window: tuple[float, float, float, float], rows: int, columns: int
) -> Tensor:
    """How much of each token's cell the boxes cover, the fuller box counting: (S,) in [0, 1].

    Args:
        boxes: Boxes (left, top, width, height) in pixels of the picture.
        window: Part of the picture that is shown, (left, top, right, bottom).
        rows: Number of rows of tokens.
        columns: Number of columns of tokens.
    """
    left, top, right, bottom = window
    covered = torch.zeros(rows, columns)
    for x, y, width, height in boxes:
        across = _overlap((x - left) / (right - left), width / (right - left), columns)
        down = _overlap((y - top) / (bottom - top), height / (bottom - top), rows)
        covered = torch.maximum(covered, down[:, None] * across[None])
    return covered.flatten()


def _overlap(start: float, length: float, cells: int) -> Tensor:
    """Which share of each of the equal cells of 0..1 the interval covers, (cells,)."""
    edges = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    inside = edges[1:].clamp(max=start + length) - edges[:-1].clamp(min=start)
    return (inside.clamp(min=0) * cells).clamp(max=1).float()


def object_weights(layout: Layout, *, share: float, rows: int, columns: int) -> Tensor:
    """How much each image token's error counts if every object counts as much, however small it is.

        w_n = (1 - share) + share * mean_o( c_on / mean_n(c_on) )

    where c_on is the part of token n's cell that the box of object o covers. The mean weight is 1.
    The weighted error is (1 - share) times the picture's mean error, and ``share`` times the mean
    over the objects of the mean error in an object's box.

    Args:
        layout: Boxes of the objects in shares of the picture's sides; unknown boxes count nothing.
        share: Share of the objects, in [0, 1].
        rows: Number of rows of tokens.
        columns: Number of columns of tokens.

    Returns:
        (S,) float32; all 1 where no box is known.

    Source:
        Chen et al. 2024, arXiv:2306.04607, weight tokens by their box's area; here the boxes of an
        example have equal sums instead.
    """
    boxes = [box for box in layout if box is not None]
    if not boxes:
        return torch.ones(rows * columns)
    window = (0.0, 0.0, 1.0, 1.0)
    covered = torch.stack(
        [box_coverage([box], window=window, rows=rows, columns=columns) for box in boxes]
    )
    own = covered / covered.mean(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (1 - share) + share * own.mean(dim=0)


def relation_regions(
    examples: Sequence[SceneExample],
    *,
    images_dir: Path,
    sizes: Sequence[Size],
    crop: Crop,
    patch: int,
) -> list[Tensor]:
    """Where each example's triple is: the boxes of its subject and object, N times (S,) float32.

    Args:
        examples: N rows with boxes.
        images_dir: Root of their pictures, whose sizes are read.
        sizes: Sizes to which the pictures are fitted, N of them.
        crop: Name of the crop by which pictures are fitted.
        patch: Pixels on a side of a token.

    Raises:
        SgfluxError: naming the first row without boxes, or whose picture cannot be read.
    """
    for number, example in enumerate(examples):
        if example.boxes is None:
            raise SgfluxError(
                f"{example.named(number)} has no boxes, which gen_rel_from "
                "'boxes' needs; use 'saliency'"
            )
    regions = []
    windows = shown_windows(examples, images_dir=images_dir, sizes=sizes, crop=crop)
    for example, (height, width), window in zip(examples, sizes, windows, strict=True):
        assert example.boxes is not None, "checked above"
        subject, _, object_ = example.graph.relationships[example.triple_index]
        boxes = [example.boxes[subject], example.boxes[object_]]
        rows, columns = height // patch, width // patch
        regions.append(box_coverage(boxes, window=window, rows=rows, columns=columns))
    return regions
