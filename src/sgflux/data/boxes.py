"""Bounding boxes in pixels, in one typed class; other conventions are named where they come in.

Rows, annotations and results have (left, top, width, height). Crops, detectors and drawing have
(left, top, right, bottom). Networks that regress boxes have (center x, center y, width, height).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

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

    @classmethod
    def from_center(cls, center: tuple[float, float], width: float, height: float) -> Box:
        """Return the box of this size around a center, (x, y)."""
        return cls(center[0] - width / 2, center[1] - height / 2, width, height)

    @property
    def corners(self) -> Corners:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom

    @property
    def right(self) -> float:
        """Distance of the right side from the picture's left side, in pixels."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Distance of the lower side from the picture's upper side, in pixels."""
        return self.top + self.height

    @property
    def center(self) -> tuple[float, float]:
        """The center, (x, y)."""
        return self.left + self.width / 2, self.top + self.height / 2

    def within(self, window: Corners) -> Box | None:
        """Return the part inside a window of the picture, in shares of the window's sides.

        It is None where nothing of the box is in the window.
        """
        left, top, right, bottom = window
        width, height = right - left, bottom - top
        inside = Box(self.left - left, self.top - top, self.width, self.height)
        part = inside.clipped(width, height)
        if part.width <= 0 or part.height <= 0:
            return None
        return Box(part.left / width, part.top / height, part.width / width, part.height / height)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def overlap(self, other: Box) -> tuple[float, float]:
        """Return the width and height that both boxes share; a negative one is a gap."""
        return (
            min(self.right, other.right) - max(self.left, other.left),
            min(self.bottom, other.bottom) - max(self.top, other.top),
        )

    def shared_area(self, other: Box) -> float:
        """Return the area that both boxes cover, in square pixels."""
        width, height = self.overlap(other)
        return max(width, 0.0) * max(height, 0.0)

    def iou(self, other: Box) -> float:
        """Return the shared area by the area that either box covers, in [0, 1]."""
        shared = self.shared_area(other)
        return shared / max(self.area + other.area - shared, 1e-9)

    def clipped(self, width: float, height: float) -> Box:
        """Return the part of the box inside a picture of this size; it may have no area."""
        left, right = (min(max(x, 0.0), width) for x in (self.left, self.right))
        top, bottom = (min(max(y, 0.0), height) for y in (self.top, self.bottom))
        return Box.from_corners((left, top, right, bottom))


Layout: TypeAlias = tuple[Box | None, ...]
"""The box of each object of a graph in shares of the picture's sides, 0 to 1; None: unknown."""


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
