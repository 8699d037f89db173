"""The raw release of Visual Genome (1.0 to 1.4): JSON files of up to 700 MB, read in one pass.

A file is one list with an entry for each image. It is mapped, not loaded: the list is cut into
entries without decoding them, and one entry at a time is decoded, as just the fields needed.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from msgspec import Raw

from sgflux.data.annotations.table import (
    ANY_SPLIT,
    Annotations,
    Images,
    Objects,
    Relations,
    clean_name,
    joined,
    source,
    taken,
)
from sgflux.data.visual_genome.raw_files import (
    FOLDERS,
    IMAGE_ENTRY,
    IMAGES,
    OBJECT_ALIASES,
    OBJECTS,
    OBJECTS_ENTRY,
    RELATION_ALIASES,
    RELATIONSHIPS,
    RELATIONSHIPS_ENTRY,
    Relationship,
    Thing,
    for_each_entry,
    image_id_of,
    object_id_of,
    read_aliases,
    read_attributes,
)
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import clean
from sgflux.graphs.scene_graph import checked_name


def read_raw(paths: Sequence[Path]) -> Annotations:
    """Read image_data, objects, relationships and, where they are, the alias files.

    Objects are those of ``objects.json`` (its name and box count, and an object that was merged
    into another one is that one); an object that only ``relationships.json`` has is taken from
    there.

    Args:
        paths: the folder of the files, alone.

    Raises:
        SgfluxError: naming the file and the entry, if one is missing or not of the release's form,
            or a name or predicate of a relationship holds a control character.
    """
    if len(paths) != 1:
        raise SgfluxError(f"the raw release is one folder, got {len(paths)} paths")
    (folder,) = paths
    if not folder.is_dir():
        raise SgfluxError(f"the raw release {str(folder)!r} is no folder")
    show = sys.stderr.isatty()
    quirks: Counter[str] = Counter()
    images, row_of = _read_images(folder / IMAGES, quirks)
    object_aliases = read_aliases(folder / OBJECT_ALIASES)
    relation_aliases = read_aliases(folder / RELATION_ALIASES)
    names, predicates = {"": 0}, {"": 0}
    things, merged = _read_objects(folder / OBJECTS, row_of, names, quirks, show=show)
    relations, ends = _read_relationships(
        folder / RELATIONSHIPS, row_of, names, predicates, quirks, show=show
    )
    objects, object_of = _joined(things, merged, ends, quirks)
    name_table, name_index = _clean_names(names, object_aliases)
    objects = replace(objects, names=name_index[objects.names])
    _check_names(folder, name_table, objects, object_of, images, things)
    _check_predicates(folder / RELATIONSHIPS, predicates, relations, images)
    ordered = taken(relations, np.argsort(relations.images, kind="stable"))
    for word in predicates:
        if clean(word) != word:
            quirks["predicates with capitals or superfluous blanks, read without"] += 1
    files = [IMAGES, OBJECTS, RELATIONSHIPS]
    files += [name for name in (OBJECT_ALIASES, RELATION_ALIASES) if (folder / name).exists()]
    return Annotations(
        title="Visual Genome (raw)",
        images=images,
        objects=objects,
        relations=replace(
            ordered, subjects=object_of[ordered.subjects], objects=object_of[ordered.objects]
        ),
        names=name_table,
        predicates=list(predicates),
        relation_aliases=relation_aliases,
        quirks=quirks,
        sources={name: source(folder / name) for name in files},
        folders=FOLDERS,
        attributes=partial(read_attributes, folder),
    )


def _read_images(path: Path, quirks: Counter[str]) -> tuple[Images, dict[int, int]]:
    """Read the images, and image id -> row."""
    paths: list[str] = []
    ids, sizes, groups = array("q"), array("q"), array("q")
    row_of: dict[int, int] = {}
    shown_by: dict[tuple[str, str | int], int] = {}

    def first_of(row: int) -> int:
        """Return the first row that is known to show the picture of a row."""
        while groups[row] != row:
            groups[row] = row = groups[groups[row]]
        return row

    def take(number: int, raw: Raw) -> None:
        entry = IMAGE_ENTRY.decode(raw)
        image_id = image_id_of(entry)
        try:
            parts = [part for part in urlsplit(entry.url).path.split("/") if part]
        except ValueError:
            parts = [""]
        if not entry.url.strip():
            # Release 1.0 has empty ones; where the file is, it is found by its name.
            parts = [f"{image_id}.jpg"]
            quirks["images without a url, looked for by their number"] += 1
        elif len(parts) < 2 or ".." in parts[-2:]:
            raise SgfluxError(
                f"{path}: entry {number} (image {image_id}): the url {entry.url!r} must "
                "end in a folder and a file, like .../VG_100K/2317504.jpg"
            )
        if image_id in row_of:
            quirks["images listed twice, read once"] += 1
            return
        row_of[image_id] = len(paths)
        same: list[tuple[str, str | int]] = [("path", "/".join(parts[-2:]))]
        same += [("coco", entry.coco_id)] if entry.coco_id is not None else []
        same += [("flickr", entry.flickr_id)] if entry.flickr_id is not None else []
        known = {first_of(shown_by[key]) for key in same if key in shown_by}
        group = min(known, default=len(paths))
        quirks["images of a picture that another image shows, kept in its split"] += bool(known)
        for other in known:
            groups[other] = group
        for key in same:
            shown_by.setdefault(key, group)
        paths.append("/".join(parts[-2:]))
        ids.append(image_id)
        sizes.extend((entry.width, entry.height))
        groups.append(group)

    for_each_entry(path, take)
    table = Images(
        paths=paths,
        ids=_int64(ids),
        sizes=_int64(sizes).reshape(-1, 2),
        groups=np.array([first_of(row) for row in range(len(paths))], dtype=np.int64),
        splits=np.full(len(paths), ANY_SPLIT, dtype=np.int8),
    )
    return table, row_of


class _Things:
    """Columns of objects while they are read."""

    def __init__(self) -> None:
        self._columns = array("q"), array("q"), array("q")
        self._boxes = array("f")

    def extend(
        self, image: int, things: list[Thing], numbers: list[int], words: dict[str, int]
    ) -> None:
        images, ids, names = self._columns
        images.extend([image] * len(things))
        ids.extend(numbers)
        for thing in things:
            word = thing.names[0] if thing.names else thing.name or ""
            names.append(words.setdefault(word, len(words)))
        self._boxes.extend([side for t in things for side in (t.x, t.y, t.w, t.h)])

    def __len__(self) -> int:
        return len(self._columns[0])

    def table(self) -> Objects:
        images, ids, names = map(_int64, self._columns)
        boxes = np.frombuffer(self._boxes, dtype=np.float32).reshape(-1, 4)
        return Objects(images=images, ids=ids, names=names, boxes=boxes)


def _read_objects(
    path: Path, row_of: dict[int, int], names: dict[str, int], quirks: Counter[str], *, show: bool
) -> tuple[Objects, dict[int, int]]:
    """Read the objects, and the id of a merged object -> the row it was merged into."""
    things = _Things()
    merged: dict[int, int] = {}

    def take(_: int, raw: Raw) -> None:
        entry = OBJECTS_ENTRY.decode(raw)
        row = row_of.get(image_id_of(entry))
        ids = [object_id_of(thing) for thing in entry.objects]
        if row is None:
            quirks["entries of objects.json about an unknown image, left out"] += 1
            return
        for place, thing in enumerate(entry.objects):
            for other in thing.merged_object_ids or ():
                merged[other] = len(things) + place
        things.extend(row, entry.objects, ids, names)

    for_each_entry(path, take, show=show)
    return things.table(), merged


def _read_relationships(
    path: Path,
    row_of: dict[int, int],
    names: dict[str, int],
    predicates: dict[str, int],
    quirks: Counter[str],
    *,
    show: bool,
) -> tuple[Relations, Objects]:
    """Read the relationships in the order of the file, and their ends in turn."""
    images, ids, places, words = array("q"), array("q"), array("q"), array("q")
    ends = _Things()

    def take(_: int, raw: Raw) -> None:
        entry = RELATIONSHIPS_ENTRY.decode(raw)
        row = row_of.get(image_id_of(entry))
        found = entry.relationships
        both = [end for one in found for end in (one.subject, one.object)]
        end_ids = [object_id_of(thing) for thing in both]
        if row is None:
            quirks["relationships of an unknown image, left out"] += len(found)
            return
        images.extend([row] * len(found))
        places.extend(range(len(found)))
        ids.extend([_relationship_id(one) for one in found])
        words.extend([predicates.setdefault(one.predicate, len(predicates)) for one in found])
        ends.extend(row, both, end_ids, names)

    for_each_entry(path, take, show=show)
    relations = Relations(
        images=_int64(images),
        ids=_int64(ids),
        places=_int64(places),
        predicates=_int64(words),
        subjects=np.arange(0, len(ends), 2),
        objects=np.arange(1, len(ends), 2),
    )
    return relations, ends.table()


def _relationship_id(one: Relationship) -> int:
    """Return the id, ``id`` in release 1.0; -1 if there is none."""
    found = one.id if one.relationship_id is None else one.relationship_id
    return -1 if found is None else found


# --- joining ------------------------------------------------------------------------------------


def _joined(
    things: Objects, merged: dict[int, int], ends: Objects, quirks: Counter[str]
) -> tuple[Objects, np.ndarray]:
    """Return all objects, and for each end of a relationship its object."""
    rows = _rows_of(things, merged, ends)
    known = np.flatnonzero(rows >= 0)
    quirks["ends of relationships that objects.json lacks, read from relationships.json"] += len(
        rows
    ) - len(known)
    via_merge = things.ids[rows[known]] != ends.ids[known]
    quirks["ends of relationships that were merged into another object, read as that one"] += int(
        via_merge.sum()
    )
    differs = (things.boxes[rows[known]] != ends.boxes[known]).any(axis=1) & ~via_merge
    quirks["ends of relationships with another box than in objects.json, whose box counts"] += int(
        differs.sum()
    )
    # Where objects.json has no name, that of the relationship counts.
    names = things.names.copy()
    nameless = known[names[rows[known]] == 0]
    names[rows[nameless]] = ends.names[nameless]

    missing = np.flatnonzero(rows < 0)
    pairs = np.stack([ends.images[missing], ends.ids[missing]], axis=1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    added = missing[first]
    boxes_differ = (ends.boxes[missing] != ends.boxes[added[inverse.ravel()]]).any(axis=1)
    quirks["ends of relationships with several boxes of one object, the first of which counts"] += (
        int(boxes_differ.sum())
    )
    rows[missing] = len(things.ids) + inverse.ravel()
    return joined([replace(things, names=names), taken(ends, added)]), rows


def _rows_of(things: Objects, merged: dict[int, int], ends: Objects) -> np.ndarray:
    """Return the row of each end's object in the same image, or -1, (len(ends),) int64."""
    ids = np.concatenate([things.ids, np.fromiter(merged.keys(), np.int64, len(merged))])
    rows = np.concatenate(
        [np.arange(len(things.ids)), np.fromiter(merged.values(), np.int64, len(merged))]
    )
    if not len(ids):
        return np.full(len(ends.ids), -1, dtype=np.int64)
    # An object's own entry comes before what was merged: the sort is stable.
    order = np.argsort(ids, kind="stable")
    at = np.minimum(np.searchsorted(ids, ends.ids, sorter=order), len(ids) - 1)
    place = order[at]
    found = rows[place]
    right = (ids[place] == ends.ids) & (things.images[found] == ends.images)
    return np.where(right, found, -1)


def _clean_names(words: Iterable[str], aliases: dict[str, str]) -> tuple[list[str], np.ndarray]:
    """Return the different clean names, and the number of each word's."""
    numbers: dict[str, int] = {"": 0}
    index = []
    for word in words:
        name = clean_name(word)
        index.append(numbers.setdefault(aliases.get(name, name), len(numbers)))
    return list(numbers), np.array(index, dtype=np.int64)


def _check_names(
    folder: Path,
    names: Sequence[str],
    objects: Objects,
    used: np.ndarray,
    images: Images,
    things: Objects,
) -> None:
    """Refuse names that no graph can have, of the objects of relationships.

    Args:
        folder: Folder of the files.
        names: The clean names.
        objects: All objects, those of objects.json first.
        used: Object of each end of a relationship, (2 R,) int64.
        images: The images.
        things: The objects as objects.json has them.
    """
    for number, name in enumerate(names):
        if name.isprintable():
            continue
        for row in used[objects.names[used] == number][:1]:
            # Where objects.json has no name, that of the relationship counts.
            is_listed = row < len(things.ids) and things.names[row] != 0
            path = folder / (OBJECTS if is_listed else RELATIONSHIPS)
            image = images.ids[objects.images[row]]
            checked_name(name, f"{path}: image {image}, object {objects.ids[row]}: the name")


def _check_predicates(
    path: Path, predicates: Iterable[str], relations: Relations, images: Images
) -> None:
    """Refuse predicates that no graph can have, ``path`` being the file of the relationships."""
    for number, word in enumerate(predicates):
        cleaned = " ".join(word.split())
        if not cleaned.isprintable():
            row = np.flatnonzero(relations.predicates == number)[0]
            image = images.ids[relations.images[row]]
            where = f"{path}: image {image}, relationship {relations.ids[row]}"
            checked_name(cleaned, f"{where}: the predicate")


def _int64(column: array[int]) -> np.ndarray:
    return np.frombuffer(column, dtype=np.int64)
