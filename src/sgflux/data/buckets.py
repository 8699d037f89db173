"""Aspect buckets: the sizes that a run's pictures may have, and which of them a picture gets.

A size is (height, width) in pixels, as everywhere in training; a picture's own one is Pillow's
(width, height).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sgflux.terminal.printable import counted

Size = tuple[int, int]
"""(height, width) in pixels."""

WIDEST = 2.0
"""The longer side of a bucket is at most so many times the shorter one."""

_STEPS = 8
"""From one bucket to the next the longer side grows by about this part of a square's side."""


def bucket_sizes(height: int, width: int, *, multiple: int) -> tuple[Size, ...]:
    """Return the sizes with about the area of height x width, from the tallest to the widest.

    The longer side goes up from that of a square in steps of an eighth of it, rounded to
    ``multiple``; the shorter one is the multiple that comes closest to the area. Every size is
    there upright and lying, and so is the given one. For 512 x 512 and multiples of 16, the sizes
    are 512 x 512, 576 x 448, 640 x 416, 704 x 368 and the same lying.

    Args:
        height: Height of the run's pictures in pixels.
        width: Width of the run's pictures in pixels.
        multiple: Number of pixels by which both sides must be divisible; 16 for FLUX.
    """
    side = math.sqrt(height * width)
    step = multiple * max(1, round(side / _STEPS / multiple))
    longer = multiple * max(1, round(side / multiple))
    sizes = {(height, width), (width, height)}
    while True:
        shorter = multiple * max(1, round(height * width / longer / multiple))
        if longer > WIDEST * shorter:
            break
        sizes |= {(longer, shorter), (shorter, longer)}
        longer += step
    return tuple(sorted(sizes, key=_ratio))


def nearest_size(picture: tuple[int, int], sizes: Sequence[Size]) -> Size:
    """Return the size whose ratio is nearest to a picture's, logarithmically; of two, the first.

    Args:
        picture: (width, height) of the picture.
        sizes: The sizes that :func:`bucket_sizes` gives.
    """
    ratio = math.log(picture[0] / picture[1])
    return min(sizes, key=lambda size: abs(math.log(size[1] / size[0]) - ratio))


def bucket_lines(sizes: Sequence[Size], *, batch_size: int | None = None) -> list[str]:
    """Return one line a size on how many examples have it, from the tallest to the widest.

    Args:
        sizes: Size of each example's picture.
        batch_size: examples in a forward pass; sizes with fewer are marked. None: none is.
    """
    lines = []
    for (height, width), count in sorted(Counter(sizes).items(), key=lambda one: _ratio(one[0])):
        line = f"{height} x {width} pixels: {counted(count, 'example')}"
        if batch_size is not None and count < batch_size:
            line += f" (fewer than a batch of {batch_size}: its batches repeat some)"
        lines.append(line)
    return lines


def _ratio(size: Size) -> tuple[float, Size]:
    return size[1] / size[0], size
