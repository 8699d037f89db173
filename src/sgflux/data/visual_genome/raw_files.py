"""The files of the raw release: their names, their entries, and how an entry is read.

A file is one list with an entry for each image. It is mapped, not loaded: the list is cut into
entries without decoding them, and one entry at a time is decoded, as just the fields needed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from sgflux.data.annotations.table import clean_name
from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import clean
from sgflux.graphs.scene_graph import checked_name

IMAGES, OBJECTS, RELATIONSHIPS = "image_data.json", "objects.json", "relationships.json"
ATTRIBUTES, OBJECT_ALIASES, RELATION_ALIASES = (
    "attributes.json",
    "object_alias.txt",
    "relationship_alias.txt",
)

FOLDERS = ("VG_100K", "VG_100K_2", "", "images")
"""Folders below the images folder in which people keep the pictures of Visual Genome."""

# What does not fit its column is an error of the entry that has it.
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Coordinate = Annotated[float, Meta(ge=-1e9, le=1e9)]


class _OfImage(Struct, gc=False):
    """An entry about an image; release 1.0 calls the image's id ``id``."""

    image_id: Id | None = None
    id: Id | None = None


class ImageEntry(_OfImage, gc=False, kw_only=True):
    """An image in image_data.json."""

    url: str
    width: Side
    height: Side
    coco_id: int | None = None
    flickr_id: int | None = None


class Thing(Struct, gc=False):
    """An object, in objects.json or as an end of a relationship."""

    x: Coordinate
    y: Coordinate
    w: Coordinate
    h: Coordinate
    object_id: Id | None = None
    id: Id | None = None
    name: str | None = None
    names: list[str] | None = None
    merged_object_ids: list[Id] | None = None


class ObjectsEntry(_OfImage, gc=False, kw_only=True):
    """The objects of an image."""

    objects: list[Thing]


class Relationship(Struct, gc=False):
    """A relationship."""

    predicate: str
    subject: Thing
    object: Thing
    relationship_id: Id | None = None
    id: Id | None = None


class RelationshipsEntry(_OfImage, gc=False, kw_only=True):
    """The relationships of an image."""

    relationships: list[Relationship]


class _AttributedThing(Struct, gc=False):
    object_id: Id | None = None
    id: Id | None = None
    attributes: list[str] | None = None


class _AttributesEntry(Struct, gc=False):
    attributes: list[_AttributedThing]


def image_id_of(entry: _OfImage) -> int:
    """Return the id of an entry's image: ``image_id``, or ``id`` as release 1.0 has it.

    Raises:
        msgspec.ValidationError: if the entry has neither.
    """
    return _first(entry.image_id, entry.id, "image_id")


def object_id_of(thing: Thing | _AttributedThing) -> int:
    """Return the id of an object: ``object_id``, or ``id`` as release 1.0 has it.

    Raises:
        msgspec.ValidationError: if the object has neither.
    """
    return _first(thing.object_id, thing.id, "object_id")


def _first(named: int | None, old: int | None, name: str) -> int:
    found = old if named is None else named
    if found is None:
        raise msgspec.ValidationError(f"Object missing required field `{name}` (or `id`)")
    return found


def read_aliases(path: Path) -> dict[str, str]:
    """Read alias -> canonical word from comma-separated lines; {} if there is no file.

    Raises:
        SgfluxError: naming the file and the line, if a word would mean two things on one line's
            authority, the first one holds a control character, or the text is not UTF-8.
    """
    if not path.exists():
        return {}
    aliases: dict[str, str] = {}
    try:
        # Not splitlines, which takes characters inside of a name for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SgfluxError(f"{path}: not UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        words = [clean(word) for word in line.split(",") if word.strip()]
        if line.strip() and not words:
            raise SgfluxError(f"{path}:{number}: no word between the commas")
        if words:
            checked_name(words[0], f"{path}:{number}: the first word")
        for word in words[1:]:
            # The release lists some words twice; the first line that has one decides.
            aliases.setdefault(word, words[0])
    return aliases


def read_attributes(folder: Path, image_ids: Iterable[int]) -> dict[int, list[str]]:
    """Read object id -> attributes of the objects in some images; {} if no file has them.

    Raises:
        SgfluxError: naming the file and the entry, if it is not of the release's form.
    """
    path = folder / ATTRIBUTES
    if not path.exists():
        return {}
    wanted = set(image_ids)
    found: dict[int, list[str]] = {}

    def take(_: int, raw: Raw) -> None:
        if image_id_of(_IMAGE_ID.decode(raw)) in wanted:
            for thing in _ATTRIBUTES.decode(raw).attributes:
                if thing.attributes:
                    words = dict.fromkeys(map(clean_name, thing.attributes))
                    found[object_id_of(thing)] = [word for word in words if word]

    for_each_entry(path, take)
    return found


# --- the files ----------------------------------------------------------------------------------

IMAGE_ENTRY = msgspec.json.Decoder(ImageEntry)
OBJECTS_ENTRY = msgspec.json.Decoder(ObjectsEntry)
RELATIONSHIPS_ENTRY = msgspec.json.Decoder(RelationshipsEntry)
_ATTRIBUTES = msgspec.json.Decoder(_AttributesEntry)
_IMAGE_ID = msgspec.json.Decoder(_OfImage)
_LIST = msgspec.json.Decoder(list[Raw])


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Map the content of a file, as pages that the system may drop again."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise SgfluxError(f"{path}: is empty; expected a list with an entry an image")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise SgfluxError(
            f"{path}: cannot be read: {error.strerror or error}; --raw needs the folder with "
            f"{IMAGES}, {OBJECTS} and {RELATIONSHIPS}, unpacked"
        ) from error
    # Raw entries hold on to the view, so it is left to them to let go of the mapping.
    yield memoryview(content)


def entries_of(path: Path, data: memoryview) -> list[Raw]:
    """Return the entries of a mapped file, cut apart but not decoded."""
    try:
        return _LIST.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SgfluxError(
            f"{path}: is not a JSON list with an entry an image (truncated?): {error}"
        ) from error


def for_each_entry(path: Path, take: Callable[[int, Raw], None], *, show: bool = False) -> None:
    """Call a function with the number of every entry of a file and the entry, not yet decoded.

    Args:
        path: The file.
        take: Function that decodes an entry and uses it.
        show: Whether a bar is shown on stderr.

    Raises:
        SgfluxError: naming the file and the entry, if the file or an entry cannot be decoded.
    """
    with mapped(path) as data:
        entries = entries_of(path, data)
        with progress_bar(len(entries), path.name, show=show) as advance:
            for number, raw in enumerate(entries):
                try:
                    take(number, raw)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    text = bytes(memoryview(raw)[:80])
                    raise SgfluxError(
                        f"{path}: entry {number}: {error}; it starts {text!r}"
                    ) from error
                if number % 1000 == 999:
                    advance(1000)
