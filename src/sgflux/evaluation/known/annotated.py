"""Annotated boxes in place of a detector's: what is then measured are the judge's rules alone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors.detector import Detection
from sgflux.evaluation.known.pictures import KnownPicture
from sgflux.evaluation.known.questions import pixels_of


class AnnotatedBoxes:
    """A detector that finds what is annotated; it knows a picture by its pixels.

    A name that several objects of a picture have is not found: which one is meant, nobody says.
    """

    name = "annotated boxes"
    sha256: str | None = None

    def __init__(self, pictures: Iterable[KnownPicture]) -> None:
        """Read every picture once.

        Raises:
            SgfluxError: if no picture has annotated objects.
        """
        objects: dict[bytes, set[tuple[str, Box]]] = defaultdict(set)
        for picture in pictures:
            if picture.objects:
                objects[_digest(pixels_of(picture))].update(
                    (name.casefold(), box) for name, box in picture.objects
                )
        self._found = {
            digest: [Detection(*one, 1.0) for one in own if _is_alone(one[0], own)]
            for digest, own in objects.items()
        }
        if not self._found:
            raise SgfluxError(
                "no picture has annotated boxes; name a detector (--detector), or data with boxes "
                "(for VSR and V-COCO, COCO's instances_*.json beside them)"
            )

    def find(
        self, images: Sequence[np.ndarray], names: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """See :meth:`Detector.find`."""
        return [
            [one for one in self._found.get(_digest(image), ()) if one.name in own]
            for image, own in zip(images, names, strict=True)
        ]


def _is_alone(name: str, objects: Iterable[tuple[str, Box]]) -> bool:
    return sum(name == other for other, _ in objects) == 1


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
