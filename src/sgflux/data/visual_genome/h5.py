"""Visual Genome as sg2im and SGDiff preprocess it: ``vocab.json`` and HDF5 files.

Shapes: N images of a file, at most M objects and M relationships each (30 in the published
files), int32, padded with -1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sgflux.data.annotations.table import (
    ANY_SPLIT,
    SPLITS,
    Annotations,
    Images,
    Objects,
    Relations,
    clean_name,
    joined,
    source,
)
from sgflux.data.visual_genome.raw_files import FOLDERS
from sgflux.data.visual_genome.vocabulary import Vocabulary, read_vocabulary
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import checked_name

IN_IMAGE, IMAGE = "__in_image__", "__image__"
"""The predicate and the object that stand for the picture as a whole."""

_COUNTS = ("objects_per_image", "relationships_per_image")
_RELATIONSHIP_TABLES = (
    "relationship_ids",
    "relationship_subjects",
    "relationship_predicates",
    "relationship_objects",
)
_TABLES = ("object_ids", "object_names", *_RELATIONSHIP_TABLES)

MAX_DATASET_BYTES = 4 * 2**30
"""Larger datasets are refused before they are allocated; the published ones have 50 MB."""


def read_h5(paths: Sequence[Path]) -> Annotations:
    """Read a vocabulary and one file, which is split by image later, or train, val and test.

    A picture that several of the three files have belongs to the last one of them that reports:
    test before val before train; the others' relationships of it do not count.

    Args:
        paths: the ``vocab.json``, then the HDF5 files.

    Raises:
        SgfluxError: naming the file, the dataset and the row, if something is not of sg2im's
            layout or does not fit the vocabulary.
    """
    vocab, *files = paths
    if len(files) not in (1, len(SPLITS)):
        raise SgfluxError(
            f"--h5 takes one file, or the three of train, val and test, got {len(files)}"
        )
    vocabulary = read_vocabulary(vocab)
    _check_words(vocab, vocabulary)
    splits = [ANY_SPLIT] if len(files) == 1 else list(range(len(SPLITS)))
    parts = [_File(path, vocabulary, split) for path, split in zip(files, splits, strict=True)]
    quirks: Counter[str] = Counter()
    home: dict[str, int] = {}
    for part in reversed(parts):
        for path in part.paths:
            home.setdefault(path, part.split)
    objects, relations = zip(*(part.columns(home, quirks) for part in parts), strict=True)
    starts = np.cumsum([0, *(len(part.paths) for part in parts[:-1])])
    firsts = np.cumsum([0, *(len(table.ids) for table in objects[:-1])])
    pictures = [path for part in parts for path in part.paths]
    number: dict[str, int] = {}
    groups = np.array([number.setdefault(path, len(number)) for path in pictures], dtype=np.int64)
    sources = {str(part.path): source(part.path) for part in parts}
    sources[str(vocab)] = {**source(vocab), "words_sha256": vocabulary.sha256}
    return Annotations(
        title="Visual Genome (h5)",
        images=Images(
            paths=pictures,
            ids=np.concatenate([part.image_ids for part in parts]),
            sizes=np.zeros((len(pictures), 2), dtype=np.int64),
            groups=groups,
            splits=np.concatenate(
                [np.full(len(part.paths), part.split, dtype=np.int8) for part in parts]
            ),
        ),
        objects=joined(objects, images=starts),
        relations=joined(relations, images=starts, subjects=firsts, objects=firsts),
        names=["" if word == IMAGE else clean_name(word) for word in vocabulary.objects],
        predicates=list(vocabulary.predicates),
        relation_aliases={},
        quirks=quirks,
        sources=sources,
        folders=FOLDERS,
    )


def _check_words(path: Path, vocabulary: Vocabulary) -> None:
    """Refuse names of objects and predicates that no graph can have."""
    tables = {"object_idx_to_name": vocabulary.objects, "pred_idx_to_name": vocabulary.predicates}
    for key, words in tables.items():
        for number, word in enumerate(words):
            if cleaned := clean_name(word):
                checked_name(cleaned, f"{path}: {key}[{number}]")


class _File:
    """One HDF5 file, read and checked."""

    def __init__(self, path: Path, vocabulary: Vocabulary, split: int) -> None:
        self.path, self.split = path, split
        self._vocabulary = vocabulary
        try:
            with h5py.File(path, "r") as file:
                self.image_ids = self._dataset(file, "image_ids", 1).astype(np.int64)
                count = len(self.image_ids)
                self._counts = {name: self._dataset(file, name, 1, count) for name in _COUNTS}
                self._tables = {name: self._dataset(file, name, 2, count) for name in _TABLES}
                boxes = self._dataset(file, "object_boxes", 3, count)
                paths = self._dataset(file, "image_paths", 1, count, numeric=False)
        except SgfluxError:
            raise
        except OSError as error:
            raise SgfluxError(f"{path}: cannot be read as HDF5: {error}") from error
        except Exception as error:  # h5py raises anything at all on damaged files.
            raise SgfluxError(
                f"{path}: is damaged, or no HDF5 file of sg2im's layout: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        if boxes.shape != (*self._tables["object_ids"].shape, 4):
            raise self._error("object_boxes", f"has the shape {boxes.shape}, not (N, M, 4)")
        for pair in (("object_ids", "object_names"), _RELATIONSHIP_TABLES):
            shapes = {name: self._tables[name].shape for name in pair}
            if len(set(shapes.values())) > 1:
                raise self._error(pair[0], f"and its siblings differ in shape: {shapes}")
        if not np.isfinite(boxes).all():
            raise self._error("object_boxes", "has numbers that are not finite")
        self._boxes = boxes
        self.paths = [self._image_path(entry, row) for row, entry in enumerate(paths)]

    def columns(self, home: dict[str, int], quirks: Counter[str]) -> tuple[Objects, Relations]:
        """Return objects and relationships as columns, with rows and objects numbered from 0."""
        tables = self._tables
        present = self._present("objects_per_image", "object_names")
        names = tables["object_names"][present].astype(np.int64)
        self._expect_below("object_names", names, len(self._vocabulary.objects), present)
        object_rows = np.flatnonzero(present.ravel())
        flat = np.full(present.size, -1, dtype=np.int64)
        flat[object_rows] = np.arange(len(object_rows))
        number = flat.reshape(present.shape)

        used = self._present("relationships_per_image", "relationship_predicates")
        rows, places = np.nonzero(used)
        predicates = tables["relationship_predicates"][used].astype(np.int64)
        self._expect_below(
            "relationship_predicates", predicates, len(self._vocabulary.predicates), used
        )
        ends = {}
        for name in ("relationship_subjects", "relationship_objects"):
            slots = tables[name][used].astype(np.int64)
            self._expect_below(name, slots, present.shape[1], used)
            ends[name] = number[rows, slots]
            if (ends[name] < 0).any():
                at = int(np.flatnonzero(ends[name] < 0)[0])
                raise self._error(
                    name, f"row {rows[at]} names the object slot {slots[at]}, which is empty"
                )
        elsewhere = np.array([home[path] != self.split for path in self.paths], dtype=bool)
        keep = np.ones(len(rows), dtype=bool)
        if elsewhere.any():
            keep &= ~elsewhere[rows]
            quirks["relationships of a picture that a later file has too, left out"] += int(
                (~keep).sum()
            )
        is_image = np.array([word == IN_IMAGE for word in self._vocabulary.predicates], dtype=bool)
        whole = is_image[predicates] & keep
        quirks[f"relationships with the predicate {IN_IMAGE}, left out"] += int(whole.sum())
        keep &= ~whole
        objects = Objects(
            images=np.nonzero(present)[0].astype(np.int64),
            ids=tables["object_ids"][present].astype(np.int64),
            names=names,
            boxes=self._boxes[present].astype(np.float32),
        )
        relations = Relations(
            images=rows[keep].astype(np.int64),
            ids=tables["relationship_ids"][used].astype(np.int64)[keep],
            places=places[keep].astype(np.int64),
            predicates=predicates[keep],
            subjects=ends["relationship_subjects"][keep],
            objects=ends["relationship_objects"][keep],
        )
        return objects, relations

    def _dataset(
        self, file: Any, name: str, ndim: int, count: int | None = None, *, numeric: bool = True
    ) -> np.ndarray:
        if name not in file:
            raise self._error(name, "is missing; expected sg2im's layout of Visual Genome")
        data = file[name]
        if not isinstance(data, h5py.Dataset):
            raise self._error(name, "is no dataset")
        size = math.prod(data.shape or (0,)) * data.dtype.itemsize
        if size > MAX_DATASET_BYTES:
            raise self._error(
                name, f"claims {size:,} bytes, more than {MAX_DATASET_BYTES:,}; is it damaged?"
            )
        values = np.asarray(data[()])
        if values.ndim != ndim or (count is not None and len(values) != count):
            raise self._error(
                name, f"has the shape {values.shape}; expected {ndim} axes of {count} images"
            )
        if numeric and values.dtype.kind not in "iuf":
            raise self._error(name, f"must be numbers, got {values.dtype}")
        if values.dtype.kind == "f" and name != "object_boxes":
            if not (np.abs(values) < 2**53).all() or (values != np.floor(values)).any():
                raise self._error(name, "must be whole numbers")
            values = values.astype(np.int64)
        if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
            raise self._error(name, f"has the number {values.max()}, which is too large")
        return values

    def _image_path(self, entry: object, row: int) -> str:
        try:
            path = entry.decode("utf-8") if isinstance(entry, bytes) else str(entry)
        except UnicodeDecodeError as error:
            raise self._error("image_paths", f"row {row} is not UTF-8: {error}") from error
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise self._error(
                "image_paths", f"row {row} is {path!r}; expected a path below the images folder"
            )
        return path

    def _present(self, counts: str, table: str) -> np.ndarray:
        """Return which slots of a table are used, within the count and not -1: (N, M) bool."""
        width = self._tables[table].shape[1]
        number = self._counts[counts]
        if ((number < 0) | (number > width)).any():
            row = int(np.flatnonzero((number < 0) | (number > width))[0])
            raise self._error(counts, f"row {row} is {number[row]}; there are {width} slots")
        used = np.arange(width)[None, :] < number[:, None]
        return used & (self._tables[table] >= 0)

    def _expect_below(self, name: str, values: np.ndarray, limit: int, used: np.ndarray) -> None:
        wrong = np.flatnonzero((values < 0) | (values >= limit))
        if len(wrong):
            row = int(np.nonzero(used)[0][wrong[0]])
            raise self._error(
                name,
                f"row {row} has the index {values[wrong[0]]}, but there are {limit}; "
                "is this the vocabulary that the file was made with?",
            )

    def _error(self, name: str, problem: str) -> SgfluxError:
        return SgfluxError(f"{self.path}: {name!r} {problem}")
