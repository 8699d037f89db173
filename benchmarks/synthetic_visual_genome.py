"""Make a synthetic Visual Genome, of the real one's size by default, in both forms.

The raw form has the real files' fields, sizes and quirks: 108,077 images, 3.8 M objects of 80,000
names, 2.3 M relationships of 36,000 wordings (about 700 MB of ``relationships.json``), attributes,
alias files, merged and unlisted objects, boxes that leave the picture, self-relations, and four
pictures that are missing and two that are truncated. The H5 form has sg2im's layout. Pictures are a
few JPEGs of one color under many names. All statements are random.

    python benchmarks/synthetic_visual_genome.py --out-dir synthetic_vg
    python benchmarks/synthetic_visual_genome.py --out-dir small_vg --images 4000
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

IMAGES = 108_077
OBJECTS_AN_IMAGE, RELATIONSHIPS_AN_IMAGE, ATTRIBUTES_AN_OBJECT = 35.2, 21.4, 0.74
SIZES = ((800, 600), (600, 800), (500, 375), (1024, 768), (640, 480), (500, 333))
H5_SLOTS = 30
NAMES, WORDINGS = 80_000, 36_000
MERGED_EVERY, UNLISTED_EVERY = 50, 97
"""Every so many objects, one was merged into another, and one is not in objects.json."""
MISSING, TRUNCATED = (1592, 1722, 4616, 4617), (1000, 2000)
"""Image ids whose picture is not there, or not whole."""

# Words of which some are canonical, some aliases, some neither; the first ones are the frequent.
PREDICATES = (
    "on", "has", "in", "of", "wearing", "with", "behind", "holding", "near", "ON", "on top of",
    "next to", "has a", "under", "of a", "by", "above", "wears", "in front of", "sitting on", "IN",
    "beside", "standing on", "on the", "riding", "attached to", "over", "covering", "hanging on",
    "below", "around", "carrying", "standing in", "at", "belonging to", "looking at", "inside",
    "hanging from", "covered in", "to the left of", "to the right of", "eating", "using",
    "touching", "playing with", "pulling", "pushing", "drinking", "playing", "hang from ",
)  # fmt: skip


def write_raw(folder: Path, *, images: int, seed: int) -> dict[str, int]:
    """Write the JSON files and the alias files; returns the number of entries of each kind."""
    rng = np.random.default_rng(seed)
    names, wordings = _names(NAMES), _wordings(WORDINGS)
    object_counts = np.maximum(rng.poisson(OBJECTS_AN_IMAGE, images), 2)
    relation_counts = rng.poisson(RELATIONSHIPS_AN_IMAGE, images)
    next_object, next_relation = 1_000_000, 10_000
    name_odds, wording_odds = np.cumsum(_zipf(len(names))), np.cumsum(_zipf(len(wordings)))

    def drawn(odds: np.ndarray, count: int) -> list[int]:
        return np.minimum(np.searchsorted(odds, rng.random(count)), len(odds) - 1).tolist()

    with ExitStack() as files:
        image_data, objects, relationships, attributes = (
            files.enter_context(_listing(folder / f"{name}.json"))
            for name in ("image_data", "objects", "relationships", "attributes")
        )
        for number in range(images):
            image_id = number + 1
            width, height = SIZES[number % len(SIZES)]
            url = f'"https://example.org/images/{picture_path(number)}"'
            coco_id = 500_000 + image_id if number % 2 else "null"
            image_data.add(
                f'{{"width": {width}, "url": {url}, "height": {height}, "image_id": {image_id}, '
                f'"coco_id": {coco_id}, "flickr_id": {10_000_000 + image_id}}}'
            )
            count = int(object_counts[number])
            drawn_names = drawn(name_odds, count)
            boxes = _boxes(rng, count, width, height)
            described = rng.poisson(ATTRIBUTES_AN_OBJECT, count).tolist()
            things = [
                _Thing(next_object + i, names[name], box, looks)
                for i, (name, box, looks) in enumerate(
                    zip(drawn_names, boxes, described, strict=True)
                )
            ]
            next_object += count
            listed = ", ".join(thing.listed for thing in things if thing.is_listed)
            objects.add(f'{{"image_id": {image_id}, "objects": [{listed}], "image_url": {url}}}')
            listed = ", ".join(thing.described for thing in things)
            attributes.add(f'{{"image_id": {image_id}, "attributes": [{listed}]}}')
            count = int(relation_counts[number])
            ends = rng.integers(0, len(things), (count, 2)).tolist()
            stated = ", ".join(
                f'{{"predicate": "{wordings[word]}", "object": {things[target].inline}, '
                f'"relationship_id": {next_relation + i}, "synsets": ["along.r.01"], '
                f'"subject": {things[subject].inline}}}'
                for i, (word, (subject, target)) in enumerate(
                    zip(drawn(wording_odds, count), ends, strict=True)
                )
            )
            next_relation += count
            relationships.add(f'{{"relationships": [{stated}], "image_id": {image_id}}}')
    lines = [f"{name},{name}s,{name} thing" for name in names[:3000]]
    (folder / "object_alias.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [f"{word.strip().lower()},kind of {word.strip().lower()}" for word in PREDICATES]
    (folder / "relationship_alias.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "images": images,
        "objects": int(object_counts.sum()),
        "relationships": int(relation_counts.sum()),
    }


def write_h5(folder: Path, *, images: int, seed: int) -> None:
    """Write train.h5, val.h5, test.h5 (80, 10 and 10 %) and vocab.json in sg2im's layout."""
    objects = ["__image__", *_names(178)]
    predicates = ["__in_image__", *(word for word in PREDICATES if word == word.strip().lower())]
    vocabulary: dict[str, object] = {"attribute_idx_to_name": [], "attribute_name_to_idx": {}}
    for kind, words in (("object", objects), ("pred", predicates)):
        vocabulary[f"{kind}_idx_to_name"] = words
        vocabulary[f"{kind}_name_to_idx"] = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    bounds = {"train": (0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}
    for number, (split, (start, stop)) in enumerate(bounds.items()):
        rows = np.arange(int(start * images), int(stop * images))
        rng = np.random.default_rng([seed, number])
        count = len(rows)
        slots = np.arange(H5_SLOTS)
        n_objects = rng.integers(3, 31, count)
        n_relations = rng.integers(1, 31, count)
        there = slots < n_objects[:, None]
        used = slots < n_relations[:, None]
        shape = (count, H5_SLOTS)
        sizes = np.array(SIZES)[rows % len(SIZES)][:, None, :]
        corner = rng.random((*shape, 2)) * 0.6 * sizes
        extent = (0.1 + 0.3 * rng.random((*shape, 2))) * sizes
        ends = (rng.random((2, *shape)) * n_objects[:, None]).astype(np.int32)
        names = rng.choice(len(objects) - 1, shape, p=_zipf(len(objects) - 1)) + 1
        words = rng.choice(len(predicates) - 1, shape, p=_zipf(len(predicates) - 1)) + 1
        tables = {
            "object_ids": (rows[:, None] * H5_SLOTS + slots, there),
            "object_names": (names, there),
            "object_boxes": (np.concatenate([corner, extent], axis=2), there[:, :, None]),
            "relationship_ids": (rows[:, None] * H5_SLOTS + slots, used),
            "relationship_subjects": (ends[0], used),
            "relationship_predicates": (words, used),
            "relationship_objects": (ends[1], used),
        }
        paths = np.array([picture_path(int(row)).encode() for row in rows], dtype=object)
        with h5py.File(folder / f"{split}.h5", "w") as file:
            for name, (values, mask) in tables.items():
                file.create_dataset(name, data=np.where(mask, values, -1).astype(np.int32))
            file.create_dataset("image_ids", data=(rows + 1).astype(np.int32))
            file.create_dataset("objects_per_image", data=n_objects.astype(np.int32))
            file.create_dataset("relationships_per_image", data=n_relations.astype(np.int32))
            file.create_dataset("image_paths", data=paths, dtype=h5py.special_dtype(vlen=bytes))


def write_pictures(folder: Path, *, images: int) -> None:
    """Write one JPEG a size, and link it under every image's name."""
    for number, size in enumerate(SIZES):
        Image.new("RGB", size, (40 * number, 128, 255 - 40 * number)).save(
            folder / f"size{number}.jpg"
        )
    for part in ("VG_100K", "VG_100K_2"):
        (folder / part).mkdir(exist_ok=True)
    for number in range(images):
        target = folder / picture_path(number)
        target.unlink(missing_ok=True)
        source = folder / f"size{number % len(SIZES)}.jpg"
        if number + 1 in TRUNCATED:
            target.write_bytes(source.read_bytes()[:-500])
        elif number + 1 not in MISSING:
            os.link(source, target)


def picture_path(number: int) -> str:
    """Path of an image's picture below the release's folder."""
    return f"VG_100K{'_2' if number % 3 == 0 else ''}/{number + 2_300_000}.jpg"


class _Thing:
    """An object with the fields of all three files."""

    def __init__(self, object_id: int, name: str, box: Sequence[int], looks: int) -> None:
        x, y, w, h = box
        # Relationships may know an object by the id that it had before it was merged.
        merged = [object_id + 50_000_000] if object_id % MERGED_EVERY == 0 else []
        self.is_listed = bool(object_id % UNLISTED_EVERY)
        synsets = f'["{name.split()[-1]}.n.01"]'
        sides = f'"h": {h}, "w": {w}, "y": {y}, "x": {x}, "synsets": {synsets}'
        itself = f'{sides}, "object_id": {object_id}, "names": ["{name}"]'
        self.listed = f'{{{itself}, "merged_object_ids": {merged}}}'
        known_as = merged[0] if merged and self.is_listed else object_id
        self.inline = f'{{"name": "{name}", {sides}, "object_id": {known_as}}}'
        words = ", ".join(f'"look{object_id % 997 + i}"' for i in range(looks))
        self.described = f'{{{itself}, "attributes": [{words}]}}' if words else f"{{{itself}}}"


class _listing:  # noqa: N801 - used as a function
    """Write a JSON list entry by entry."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=2**20)
        self._separator = "["

    def __enter__(self) -> _listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.write("]")
        self._file.close()

    def add(self, entry: str) -> None:
        self._file.write(self._separator + entry)
        self._separator = ", "


def _boxes(
    rng: np.random.Generator, count: int, width: int, height: int
) -> Iterator[tuple[int, int, int, int]]:
    """Draw boxes of all sizes; a few of them leave the picture or have a negative corner."""
    limits = np.array([width, height])
    corner = (rng.random((count, 2)) * 0.8 - 0.02) * limits
    extent = (0.03 + 0.5 * rng.random((count, 2)) ** 2) * limits
    numbers = np.concatenate([corner, extent], axis=1).astype(int).tolist()
    yield from (tuple(box) for box in numbers)


def _names(count: int) -> list[str]:
    """Make names of one to three words; the frequent ones come first."""
    heads = ["man", "tree", "sign", "shirt", "table", "dog", "horse", "wall", "car", "hat"]
    kinds = ["", *(f"{kind}{n}" for n in range(40) for kind in ("red", "old", "tall"))]
    common = [f"{kind} {head}".strip() for kind in kinds for head in heads]
    return [*common, *(f"part{n % 7} of thing{n}" for n in range(count))][:count]


def _wordings(count: int) -> list[str]:
    """Make predicates; the frequent ones come first, and rare ones make up the rest."""
    rare = (f"verb{n // 3} {('on', 'next to', 'in the')[n % 3]}" for n in range(count))
    return [*PREDICATES, *rare][:count]


def _zipf(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def main() -> None:
    """Parse the flags and write everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    flags.out_dir.mkdir(parents=True, exist_ok=True)
    counts = write_raw(flags.out_dir, images=flags.images, seed=flags.seed)
    write_h5(flags.out_dir, images=flags.images, seed=flags.seed)
    write_pictures(flags.out_dir, images=flags.images)
    print(", ".join(f"{count:,} {what}" for what, count in counts.items()))
    for path in sorted(flags.out_dir.glob("*.json")) + sorted(flags.out_dir.glob("*.h5")):
        print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
