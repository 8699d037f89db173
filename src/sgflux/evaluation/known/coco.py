"""COCO's instances: names and boxes of the objects in its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.files.json_files import typed
from sgflux.files.reading import naming_unreadable
from sgflux.graphs.scene_graph import checked_name

KEYS = {"images", "annotations", "categories"}
"""Keys by which such a file is known."""


class _Image(Struct):
    id: int
    file_name: str


class _Annotation(Struct):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class _Category(Struct):
    id: int
    name: str


class _Instances(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass
class Coco:
    """What one or several files say.

    Attributes:
        files: Number of a picture -> name of its file.
        names: Number of an annotation -> name of its object.
        objects: Name of a picture's file -> names and boxes of its objects.
    """

    files: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    objects: dict[str, list[tuple[str, Box]]] = field(default_factory=dict)


def read_coco(paths: Sequence[Path]) -> Coco:
    """Read files of instances, of any size: that of train2014 has 330 megabytes.

    Raises:
        SgfluxError: naming the file and what is wrong.
    """
    coco = Coco()
    for path in paths:
        with naming_unreadable(path):
            content = path.read_bytes()
        found = typed(content, _Instances, where=str(path), way_out="get COCO's file again")
        categories = {
            category.id: checked_name(category.name, f"{path}: the name of category {category.id}")
            for category in found.categories
        }
        for image in found.images:
            coco.files[image.id] = image.file_name
            coco.objects[image.file_name] = []
        for one in found.annotations:
            if one.category_id not in categories or one.image_id not in coco.files:
                raise SgfluxError(
                    f"{path}: annotation {one.id} is of category {one.category_id} in image "
                    f"{one.image_id}, one of which the file does not have; get COCO's file again"
                )
            coco.names[one.id] = categories[one.category_id]
            objects = coco.objects[coco.files[one.image_id]]
            objects.append((coco.names[one.id], Box(*one.bbox)))
    return coco
