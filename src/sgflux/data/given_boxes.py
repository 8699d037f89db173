"""Boxes that a user gives for the objects of a graph, by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sgflux.data.boxes import Box, Layout
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph

_FORM = (
    'like {"man": [0.1, 0.2, 0.3, 0.5]}: left, top, width and height as shares of the picture\'s '
    "sides, from 0 to 1"
)

NamedBoxes = Mapping[str, Sequence[float]]
"""Name of an object, such as "dog" or "dog#2" -> left, top, width and height from 0 to 1."""


def read_boxes(text: str) -> str | NamedBoxes:
    """Read what ``--boxes`` is given: 'predicted', 'none', or a JSON table of boxes.

    Raises:
        SgfluxError: on anything else; the message names the box.
    """
    if text in ("predicted", "none"):
        return text
    try:
        table: Any = json.loads(text)
    except json.JSONDecodeError:
        table = None
    if not isinstance(table, dict) or not table:
        raise SgfluxError(f"boxes must be 'predicted', 'none' or a JSON table {_FORM}; got {text}")
    for name, numbers in table.items():
        given_box(name, numbers)
    return table


def given_box(name: str, numbers: Any) -> Box:
    """Return the box of four numbers.

    Raises:
        SgfluxError: naming the object, if the numbers are no box inside a picture.
    """
    is_list = isinstance(numbers, Sequence) and len(numbers) == 4
    if is_list and all(type(number) in (int, float) for number in numbers):
        box = Box(*map(float, numbers))
        inside = min(box.left, box.top) >= 0 and max(box.right, box.bottom) <= 1 + 1e-6
        if inside and min(box.width, box.height) > 0:
            return box
    raise SgfluxError(f"the box of {name!r} must be {_FORM}; got {numbers!r}")


def layout_by_name(graph: SceneGraph, boxes: NamedBoxes) -> Layout:
    """Return the boxes in the order of a graph's objects; those that are not given are unknown.

    Raises:
        SgfluxError: if a name is no object's, or a box is none.
    """
    given = {name.casefold(): given_box(name, numbers) for name, numbers in boxes.items()}
    labels = graph.labels()
    unknown = set(given) - {label.casefold() for label in labels}
    if unknown:
        raise SgfluxError(
            f"there are boxes of {', '.join(map(repr, sorted(unknown)))}, but the graph has the "
            f"objects {', '.join(map(repr, labels))}"
        )
    return tuple(given.get(label.casefold()) for label in labels)
