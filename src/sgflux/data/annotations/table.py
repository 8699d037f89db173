"""All annotated relationships of a source as columns, before anything is dropped.

Shapes: I images, O objects, R relationships, the last two in the order of their images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

SPLITS: tuple[str, ...] = ("train", "val", "test")
"""The three sets; a number below is an index into this."""

ANY_SPLIT = -1
"""The split of an image that the source assigns to none."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images.

    Attributes:
        paths: paths below the images folder, as the source has them; not checked yet.
        ids: image ids of the source, (I,) int64.
        sizes: (width, height) in pixels, (I, 2) int64; 0 where the source does not say.
        groups: (I,) int64; images of one picture share a number and stay in one split.
        splits: index of the split that the source assigns, or ``ANY_SPLIT``, (I,) int8.
    """

    paths: list[str]
    ids: np.ndarray
    sizes: np.ndarray
    groups: np.ndarray
    splits: np.ndarray

    def __len__(self) -> int:
        """I."""
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects that relationships are about.

    Attributes:
        images: each one's image, (O,) int64.
        ids: object ids of the source, (O,) int64.
        names: index into ``Annotations.names``, (O,) int64.
        boxes: (left, top, width, height) in pixels as annotated, (O, 4) float32.
    """

    images: np.ndarray
    ids: np.ndarray
    names: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, eq=False)
class Relations:
    """The relationships.

    Attributes:
        images: each one's image, ascending, (R,) int64.
        ids: relationship ids of the source, (R,) int64.
        places: Place of each relation among those of its image in the file, (R,) int64.
        predicates: index into ``Annotations.predicates``, (R,) int64.
        subjects: index of an object, (R,) int64.
        objects: index of an object, (R,) int64.
    """

    images: np.ndarray
    ids: np.ndarray
    places: np.ndarray
    predicates: np.ndarray
    subjects: np.ndarray
    objects: np.ndarray

    def __len__(self) -> int:
        """R."""
        return len(self.ids)

    def of_image(self, image: int) -> range:
        """Return the relationships of one image."""
        first, last = np.searchsorted(self.images, (image, image + 1))
        return range(int(first), int(last))


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a reader finds in a source.

    Attributes:
        title: name of the source, for the summary and the contact sheet.
        images: the images.
        objects: the objects.
        relations: the relationships.
        names: different names of objects, clean ("" for none).
        predicates: different predicates, in the words of the file.
        relation_aliases: cleaned predicate -> the one that the source has for it.
        quirks: Name of each oddity of the files -> how often it occurs; its name says how it is
            handled.
        sources: file -> size in bytes (and, of a vocabulary, its hash).
        folders: folders below the images folder, in which a picture is looked for by its file's
            name if it is not at its path.
        attributes: image ids -> object id -> attributes of the objects in these images; None if
            the source has no attributes.
    """

    title: str
    images: Images
    objects: Objects
    relations: Relations
    names: list[str]
    predicates: list[str]
    relation_aliases: dict[str, str]
    quirks: Counter[str]
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    attributes: Callable[[Iterable[int]], dict[int, list[str]]] | None = None


_Columns = TypeVar("_Columns", Objects, Relations)


def joined(parts: Sequence[_Columns], **starts: np.ndarray) -> _Columns:
    """Return several tables as one, in their order.

    Args:
        parts: Tables of one kind.
        starts: Column of indices -> what is added to those of each part.
    """

    def column(name: str) -> np.ndarray:
        values = [getattr(part, name) for part in parts]
        if name in starts:
            values = [own + start for own, start in zip(values, starts[name], strict=True)]
        return np.concatenate(values)

    return type(parts[0])(**{entry.name: column(entry.name) for entry in fields(parts[0])})


def taken(table: _Columns, rows: np.ndarray) -> _Columns:
    """Return some rows of a table, in the order in which they are named."""
    return type(table)(**{entry.name: getattr(table, entry.name)[rows] for entry in fields(table)})


def clean_name(name: str) -> str:
    """Return a name of an object in lower case with single blanks."""
    return " ".join(name.lower().split())


def source(path: Path) -> dict[str, Any]:
    """Return what a summary says of a file that was read."""
    return {"bytes": path.stat().st_size}
