"""Boxes of rows in the pictures as a model sees them, and boxes that a user gives.

If one of these failed, a model would learn boxes of the photo where it sees a part of it, or a
mistyped box would be drawn elsewhere in silence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sgflux.data.boxes import Box
from sgflux.data.given_boxes import layout_by_name, read_boxes
from sgflux.data.layouts import shown_layouts
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from tests.helpers.graph_examples import example

DOGS = SceneGraph.parse("dog, left of, dog#2; dog, near, cat")


def test_boxes_are_shares_of_what_is_shown(tmp_path: Path) -> None:
    boxes = (Box(10, 20, 20, 10), Box(0, 0, 8, 8))
    one = replace(example("man, riding, horse"), boxes=boxes)
    path = tmp_path / one.image_rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 40)).save(path)
    whole, middle = (
        shown_layouts([one], images_dir=tmp_path, sizes=[(64, 64)], crop=crop)[0]
        for crop in ("none", "center")
    )
    assert whole == (Box(10 / 80, 20 / 40, 20 / 80, 10 / 40), Box(0, 0, 0.1, 0.2))
    # The middle has the columns 20 to 60: half of the man is in it, and nothing of the horse.
    assert middle == (Box(0, 0.5, 0.25, 0.25), None)


def test_rows_without_boxes_have_unknown_ones(tmp_path: Path) -> None:
    one = example("man, riding, horse")
    found = shown_layouts([one], images_dir=tmp_path, sizes=[(64, 64)], crop="none")
    assert found == [(None, None)]


def test_given_boxes_belong_to_the_objects_that_they_name() -> None:
    boxes = read_boxes('{"Dog#2": [0.5, 0.5, 0.5, 0.5], "cat": [0, 0, 0.2, 0.1]}')
    assert not isinstance(boxes, str)
    assert layout_by_name(DOGS, boxes) == (None, Box(0.5, 0.5, 0.5, 0.5), Box(0, 0, 0.2, 0.1))
    with pytest.raises(SgfluxError, match=r"boxes of 'horse', but the graph has .*'dog#2'"):
        layout_by_name(DOGS, {"horse": [0, 0, 1, 1]})
    assert read_boxes("none") == "none"


@pytest.mark.parametrize(
    "text",
    [
        "given",
        "[1, 2]",
        "{}",
        '{"dog": [0.5, 0.5, 0.6, 0.1]}',
        '{"dog": [10, 20, 30, 40]}',
        '{"dog": [0.1, 0.1, 0, 0.2]}',
        '{"dog": [0.1, 0.1, 0.2]}',
        '{"dog": [0.1, 0.1, 0.2, "x"]}',
        '{"dog": [NaN, 0.1, 0.2, 0.3]}',
    ],
)
def test_what_is_no_box_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SgfluxError, match="left, top, width and height as shares"):
        read_boxes(text)
