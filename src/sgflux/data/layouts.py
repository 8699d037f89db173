"""Where the objects of rows are in the pictures as a model sees them, cropped and scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sgflux.data.boxes import Corners, Layout
from sgflux.data.buckets import Size
from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import Crop, crop_box, crop_window, load_image


def shown_windows(
    examples: Sequence[SceneExample], *, images_dir: Path, sizes: Sequence[Size], crop: Crop
) -> Iterator[Corners]:
    """Yield the part of each row's picture that is shown, in its pixels.

    Args:
        examples: N rows.
        images_dir: Root of their pictures, whose sizes are read.
        sizes: Sizes to which the pictures are fitted, N of them.
        crop: Name of the crop by which pictures are fitted.

    Raises:
        SgfluxError: if a picture cannot be read, or the crop needs boxes that a row lacks.
    """
    pictures: dict[Path, tuple[int, int]] = {}
    for number, (example, (height, width)) in enumerate(zip(examples, sizes, strict=True)):
        path = resolve_image(example, images_dir)
        if path not in pictures:
            pictures[path] = load_image(path).size
        box = crop_box(example.boxes, crop, name=example.named(number))
        yield crop_window(pictures[path], height=height, width=width, crop=crop, box=box)


def shown_layouts(
    examples: Sequence[SceneExample], *, images_dir: Path, sizes: Sequence[Size], crop: Crop
) -> list[Layout]:
    """Return the boxes of each row in shares of what is shown; without boxes, they are unknown.

    Args:
        examples, images_dir, sizes, crop: Arguments of :func:`shown_windows`.

    Raises:
        SgfluxError: as :func:`shown_windows`.
    """
    layouts: list[Layout] = [(None,) * len(example.graph.objects) for example in examples]
    rows = [row for row, example in enumerate(examples) if example.boxes is not None]
    windows = shown_windows(
        [examples[row] for row in rows],
        images_dir=images_dir,
        sizes=[sizes[row] for row in rows],
        crop=crop,
    )
    for row, window in zip(rows, windows, strict=True):
        layouts[row] = tuple(box.within(window) for box in examples[row].boxes or ())
    return layouts
