"""What a detector is: it finds named objects in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sgflux.data.boxes import Box


@dataclass(frozen=True)
class Detection:
    """An object that a detector found.

    Attributes:
        name: One of the names that were asked for.
        box: Box around the object, in pixels of the picture, inside of it.
        score: Confidence, in [0, 1].
    """

    name: str
    box: Box
    score: float

    def to_json(self) -> dict[str, Any]:
        """Return box and score as a picture's evidence has them."""
        sides = [round(float(side), 1) for side in self.box]
        return {"box": sides, "score": round(self.score, 4)}


NMS_IOU = 0.5
"""Overlap above which the weaker of two boxes of one name is dropped."""


class Detector(Protocol):
    """Finds objects by their names.

    Attributes:
        name: Name of the detector, in results.
        sha256: SHA-256, in hex, of what decides what it finds: weights, and settings that are read
            with them; None if it has none.
    """

    name: str
    sha256: str | None

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """Look for objects.

        Args:
            images: N pictures, (H, W, 3) uint8 each. A picture may occur several times, as the same
                array, with other names.
            names: Names, in lower case, that are looked for in each picture. A name that the
                detector does not know is never found.

        Returns:
            The objects found in each of the N pictures, in any order.
        """


def best_of_overlapping(detections: Sequence[Detection], *, iou: float) -> list[Detection]:
    """Keep, of boxes of one name that overlap by more than ``iou``, the best (NMS)."""
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda one: -one.score):
        if all(one.name != other.name or one.box.iou(other.box) <= iou for other in kept):
            kept.append(one)
    return kept


def relative_box(values: np.ndarray, *, size: tuple[float, float], image: np.ndarray) -> Box:
    """Return the part of a box inside of a picture.

    Args:
        values: (center x, center y, width, height) as parts of ``size``.
        size: Width and height, in pixels, that the values are parts of.
        image: The picture, (H, W, 3).
    """
    x, y, width, height = (float(v) * s for v, s in zip(values, (*size, *size), strict=True))
    return Box.from_center((x, y), width, height).clipped(image.shape[1], image.shape[0])
