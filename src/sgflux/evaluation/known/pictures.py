"""Pictures about which it is known what they show: what a judge is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sgflux.data.boxes import Box
from sgflux.graphs.scene_graph import Triple


class Source(StrEnum):
    """Who says whether a statement is true."""

    HUMAN = "human"
    """People looked at the picture and judged the statement, true or false."""
    GEOMETRIC = "geometric"
    """The relation was computed from annotated boxes."""
    STATED = "stated"
    """A data set states the relation; what it does not state may be true as well."""


@dataclass(frozen=True)
class KnownStatement:
    """A statement about a picture.

    Attributes:
        triple: The statement, in the words of its source.
        is_true: Whether the picture shows it.
        source: Authority that says so.
    """

    triple: Triple
    is_true: bool
    source: Source


@dataclass(frozen=True)
class KnownPicture:
    """A picture and what is known of it.

    Attributes:
        path: The picture's file.
        statements: Statements that are known to be true or false.
        objects: Name and box, in pixels of the upright picture, of every annotated object; None if
            objects are not annotated.
        is_mirrored: Whether the mirror image of the file is meant.
        also_true: Further statements that hold, about which a judge is not asked.
        also_shown: Further names of objects that are in the picture.
    """

    path: Path
    statements: tuple[KnownStatement, ...]
    objects: tuple[tuple[str, Box], ...] | None = None
    is_mirrored: bool = False
    also_true: tuple[Triple, ...] = ()
    also_shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownSet:
    """What a file holds.

    Attributes:
        pictures: The pictures.
        left_out: Reason -> number of entries that are no statements of two named objects.
    """

    pictures: Sequence[KnownPicture]
    left_out: dict[str, int]
