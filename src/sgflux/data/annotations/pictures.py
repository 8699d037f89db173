"""Annotated pictures, one record each, as the table that the other modules of this room work on.

A reader of a small or middle-sized source makes these records. One of a large source, such as
Visual Genome with two million relationships, makes the table's columns itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sgflux.data.annotations.table import (
    ANY_SPLIT,
    SPLITS,
    Annotations,
    Images,
    Objects,
    Relations,
    clean_name,
)
from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import Relationship


@dataclass(frozen=True)
class AnnotatedObject:
    """An object in a picture.

    Attributes:
        name: Name of the object.
        box: Box around the object, in pixels of the upright picture.
    """

    name: str
    box: Box


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture with its objects and their relationships.

    Attributes:
        path: path of the picture's file below the images folder.
        objects: the objects.
        relationships: (subject, predicate, object); the ends are indices into ``objects``.
        size: (width, height) of the upright picture in pixels; None if the source does not say.
        split: "train", "val" or "test" if the source assigns one, else None.
    """

    path: str
    objects: Sequence[AnnotatedObject]
    relationships: Sequence[Relationship]
    size: tuple[int, int] | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        """Check that the ends are objects and the split is one."""
        for triple in self.relationships:
            if not all(0 <= end < len(self.objects) for end in (triple[0], triple[2])):
                raise SgfluxError(
                    f"{self.path}: the relationship {triple} needs indices of its "
                    f"{len(self.objects)} objects, counted from 0"
                )
        if self.split not in (None, *SPLITS):
            raise SgfluxError(f"{self.path}: split must be one of {SPLITS}, got {self.split!r}")


def annotations_of(pictures: Iterable[AnnotatedPicture], *, title: str) -> Annotations:
    """Make the table of some pictures.

    Pictures, objects and relationships are numbered in their order; these numbers are their ids.

    Args:
        pictures: the pictures; entries of one path are one picture for the splits.
        title: name of the source, for the summary and the contact sheet.
    """
    pictures = list(pictures)
    groups: dict[str, int] = {}
    names: dict[str, int] = {"": 0}
    predicates: dict[str, int] = {}
    objects: list[tuple[int, int]] = []
    boxes: list[Box] = []
    relations: list[tuple[int, int, int, int, int]] = []
    for image, picture in enumerate(pictures):
        groups.setdefault(picture.path, len(groups))
        first = len(objects)
        for thing in picture.objects:
            objects.append((image, names.setdefault(clean_name(thing.name), len(names))))
            boxes.append(thing.box)
        for place, (subject, predicate, target) in enumerate(picture.relationships):
            word = predicates.setdefault(predicate, len(predicates))
            relations.append((image, place, word, first + subject, first + target))
    splits = [ANY_SPLIT if p.split is None else SPLITS.index(p.split) for p in pictures]
    of_object = np.array(objects, dtype=np.int64).reshape(-1, 2).T
    of_relation = np.array(relations, dtype=np.int64).reshape(-1, 5).T
    return Annotations(
        title=title,
        images=Images(
            paths=[picture.path for picture in pictures],
            ids=np.arange(len(pictures)),
            sizes=np.array([p.size or (0, 0) for p in pictures], dtype=np.int64).reshape(-1, 2),
            groups=np.array([groups[picture.path] for picture in pictures], dtype=np.int64),
            splits=np.array(splits, dtype=np.int8),
        ),
        objects=Objects(
            images=of_object[0],
            ids=np.arange(len(objects)),
            names=of_object[1],
            boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        ),
        relations=Relations(
            images=of_relation[0],
            ids=np.arange(len(relations)),
            places=of_relation[1],
            predicates=of_relation[2],
            subjects=of_relation[3],
            objects=of_relation[4],
        ),
        names=list(names),
        predicates=list(predicates),
        relation_aliases={},
        quirks=Counter(),
    )
