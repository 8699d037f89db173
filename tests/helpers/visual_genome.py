"""Small releases of Visual Genome, made by hand: raw JSON, and HDF5 of exactly sg2im's layout."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sgflux.data.annotations.table import Annotations
from tests.helpers.rows import write_picture

SIZE = (80, 60)
Thing = dict[str, Any]


@dataclass
class Release:
    """A raw release that is put together image by image, and then written."""

    root: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    relationships: list[dict[str, Any]] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: itertools.count(1000))

    def thing(self, name: str = "man", box: Sequence[float] = (0, 0, 40, 40), **more: Any) -> Thing:
        x, y, w, h = box
        thing = {"object_id": next(self.ids), "x": x, "y": y, "w": w, "h": h, "names": [name]}
        return {**thing, "synsets": [], **more}

    def image(
        self,
        *statements: tuple[Thing, str, Thing],
        path: str | None = None,
        picture: bool = True,
        size: tuple[int, int] = SIZE,
        listed: bool = True,
        **more: Any,
    ) -> int:
        """Add an image with relationships (and its picture); returns its id."""
        image_id = next(self.ids)
        path = f"VG_100K{'_2' * (image_id % 2)}/{image_id}.png" if path is None else path
        self.images.append(
            {
                "image_id": image_id,
                "url": f"https://somewhere.example/rak248/{path}",
                "width": size[0],
                "height": size[1],
                "coco_id": None,
                "flickr_id": None,
                **more,
            }
        )
        ends = {id(t): t for s, _, o in statements for t in (s, o)}
        if listed:
            self.objects.append({"image_id": image_id, "objects": list(ends.values())})
        self.relationships.append(
            {
                "image_id": image_id,
                "relationships": [
                    {
                        "relationship_id": next(self.ids),
                        "predicate": predicate,
                        "synsets": [],
                        "subject": _inline(subject),
                        "object": _inline(target),
                    }
                    for subject, predicate, target in statements
                ],
            }
        )
        if picture:
            write_picture(self.root / path, size=size, seed=image_id)
        return image_id

    def simple(self, triple: str, **more: Any) -> int:
        """An image with one relationship, "man, riding, horse"."""
        subject, predicate, target = (word.strip() for word in triple.split(","))
        return self.image(
            (self.thing(subject), predicate, self.thing(target, (20, 10, 50, 40))), **more
        )

    def write(self) -> Path:
        for name in ("image_data", "objects", "relationships"):
            content = self.images if name == "image_data" else getattr(self, name)
            (self.root / f"{name}.json").write_text(json.dumps(content))
        return self.root


def _inline(thing: Thing) -> Thing:
    """An object as relationships have it, with ``name`` where objects have ``names``."""
    inline = {name: value for name, value in thing.items() if name != "merged_object_ids"}
    names = inline.pop("names")
    return {**inline, **({"name": names[0]} if names else {})}


VOCAB_OBJECTS = ["__image__", "man", "horse", "hat", "table", "dog"]
VOCAB_PREDICATES = ["__in_image__", "riding", "next to", "on", "on top of", "has"]


def write_vocab(path: Path, objects: Sequence[str] = VOCAB_OBJECTS) -> Path:
    content: dict[str, Any] = {"attribute_name_to_idx": {}, "attribute_idx_to_name": []}
    for kind, words in (("object", list(objects)), ("pred", VOCAB_PREDICATES)):
        content[f"{kind}_idx_to_name"] = words
        content[f"{kind}_name_to_idx"] = {word: i for i, word in enumerate(words)}
    path.write_text(json.dumps(content))
    return path


@dataclass(frozen=True)
class H5Image:
    """An image of an H5 file: (name, box) of its objects, and triples of slot, predicate, slot."""

    path: str
    objects: Sequence[tuple[str, tuple[int, int, int, int]]]
    triples: Sequence[tuple[int, str, int]]


def write_h5(path: Path, images: Sequence[H5Image], *, slots: int = 6, **changes: Any) -> Path:
    """Exactly the datasets, types and padding that sg2im's preprocessing writes."""
    count = len(images)

    def padded(*shape: int) -> np.ndarray:
        return np.full((count, slots, *shape), -1, dtype=np.int32)

    tables = {name: padded() for name in ("object_ids", "object_names")}
    tables["object_boxes"] = padded(4)
    parts = ("ids", "subjects", "predicates", "objects")
    tables |= {f"relationship_{part}": padded() for part in parts}
    for row, image in enumerate(images):
        for slot, (name, box) in enumerate(image.objects):
            tables["object_ids"][row, slot] = 100 * row + slot
            tables["object_names"][row, slot] = VOCAB_OBJECTS.index(name)
            tables["object_boxes"][row, slot] = box
        for slot, (subject, predicate, target) in enumerate(image.triples):
            tables["relationship_ids"][row, slot] = 1000 * row + slot
            tables["relationship_subjects"][row, slot] = subject
            tables["relationship_predicates"][row, slot] = VOCAB_PREDICATES.index(predicate)
            tables["relationship_objects"][row, slot] = target
    tables["image_ids"] = np.arange(count, dtype=np.int32)
    tables["objects_per_image"] = np.array([len(i.objects) for i in images], dtype=np.int32)
    tables["relationships_per_image"] = np.array([len(i.triples) for i in images], dtype=np.int32)
    with h5py.File(path, "w") as file:
        for name, values in {**tables, **changes}.items():
            if values is not None:
                file.create_dataset(name, data=values)
        paths = np.array([image.path.encode() for image in images], dtype=object)
        file.create_dataset("image_paths", data=paths, dtype=h5py.special_dtype(vlen=bytes))
    return path


def statements(table: Annotations) -> list[tuple[str, str, str]]:
    names, relations = table.objects.names, table.relations
    return [
        (table.names[names[s]], table.predicates[p], table.names[names[o]])
        for s, p, o in zip(relations.subjects, relations.predicates, relations.objects, strict=True)
    ]
