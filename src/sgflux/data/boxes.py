"""Bounding boxes in pixels, in one typed class; other conventions are named where they come in.

Rows, annotations and results have (left, top, width, height). Crops, detectors and drawing have
(left, top, right, bottom).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sgflux.errors import SgfluxError

Corners = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


class Box(NamedTuple):
    """A box of the upright picture; as a tuple and in JSON it is (left, top, width, height).

    Attributes:
        left: distance of its left side from the picture's, in pixels.
        top: distance of its upper side from the picture's, in pixels.
        width: Width in pixels.
        height: Height in pixels.
    """

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def from_corners(cls, corners: Corners) -> Box:
        """Return the box with these corners, (left, top, right, bottom)."""
        left, top, right, bottom = corners
        return cls(left, top, right - left, bottom - top)

    @property
    def corners(self) -> Corners:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def union_box(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around ``boxes``.

    Raises:
        SgfluxError: if there is none.
    """
    corners = [box.corners for box in boxes]
    if not corners:
        raise SgfluxError("the union of no boxes is nothing: a union crop needs at least one box")
    left, top = (min(corner[i] for corner in corners) for i in (0, 1))
    right, bottom = (max(corner[i] for corner in corners) for i in (2, 3))
    return Box.from_corners((left, top, right, bottom))
