"""One box in the three conventions of files, crops and networks.

Broken, a box that is read in another convention than it was written in would lie elsewhere.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sgflux.data.boxes import Box

numbers = st.integers(-50, 50).map(float)
sizes = st.integers(1, 50).map(float)
boxes = st.builds(Box, numbers, numbers, sizes, sizes)


@given(boxes)
def test_every_convention_gives_the_same_box(box: Box) -> None:
    assert Box.from_corners(box.corners) == box
    assert Box.from_center(box.center, box.width, box.height) == box
    assert (box.right, box.bottom) == box.corners[2:]


@given(boxes, boxes)
def test_shared_areas_are_symmetric_and_within_both(one: Box, other: Box) -> None:
    assert one.shared_area(other) == other.shared_area(one) <= min(one.area, other.area)
    assert one.shared_area(one) == one.area
    assert one.iou(one) == 1
    assert 0 <= one.iou(other) <= 1


def test_worked_numbers() -> None:
    box = Box(10, 20, 30, 40)
    assert box.corners == (10, 20, 40, 60)
    assert box.center == (25, 40)
    assert box.overlap(Box(35, 0, 10, 15)) == (5, -5), "5 wide, a gap of 5 in height"
    assert box.shared_area(Box(35, 50, 10, 20)) == 50
    assert box.iou(Box(25, 20, 30, 40)) == 1 / 3
    assert Box(-5, 10, 20, 100).clipped(10, 50) == Box(0, 10, 10, 40)
    assert Box(60, 0, 5, 5).clipped(50, 50).area == 0
