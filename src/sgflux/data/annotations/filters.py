"""Which relationships are fit to be examples; what is dropped is counted, by predicate and reason.

Shapes: R relationships; C classes (the predicates asked for).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sgflux.data.annotations.locating import missing_files
from sgflux.data.annotations.table import Annotations
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, clean

SAME_THING = 0.9
"""Two boxes of one name with this intersection over union are two annotations of one thing."""

_UNKNOWN_SHOWN = 40


@dataclass(eq=False)
class Ledger:
    """Counts by predicate before and after each filter.

    Attributes:
        classes: the C predicates.
        found: relationships of each class before any filter.
        entries: one a filter, in order, as the summary has them.
    """

    classes: tuple[str, ...]
    found: dict[str, int]
    entries: list[dict[str, Any]] = field(default_factory=list)

    def drop(
        self, reason: str, labels: np.ndarray, keep: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        """Write down what ``mask`` drops of what ``keep`` has, and return what is left, (R,)."""
        left = keep & ~mask
        self.count(reason, labels[keep & mask], labels[left])
        return left

    def count(self, reason: str, dropped: np.ndarray, left: np.ndarray) -> None:
        """Write down the classes of what was dropped for a reason, and of what is left."""
        self.entries.append(
            {
                "reason": reason,
                "dropped": len(dropped),
                "dropped_by_predicate": self.by_class(dropped),
                "left_by_predicate": self.by_class(left),
            }
        )

    def by_class(self, labels: np.ndarray) -> dict[str, int]:
        """Name of each class -> how often it is among ``labels``."""
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return {name: int(counts[i]) for i, name in enumerate(self.classes)}


@dataclass(frozen=True, eq=False)
class Candidates:
    """The relationships that are fit to be examples.

    Attributes:
        labels: each relationship's class, -1 where its predicate is none, (R,) int64.
        keep: True at the relationships that are fit to be examples, (R,) bool.
        boxes: the objects' boxes inside of the picture, (O, 4) float32.
        ledger: Number of relationships dropped for each reason.
        other_predicates: predicates that are no class -> how often; the most frequent ones.
    """

    labels: np.ndarray
    keep: np.ndarray
    boxes: np.ndarray
    ledger: Ledger
    other_predicates: dict[str, int]


def class_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that ``words`` name: canonical where they can be, sorted.

    Raises:
        SgfluxError: if there is none, or two words mean the same predicate.
    """
    names: dict[str, str] = {}
    for word in words:
        name = DEFAULT_VOCABULARY.normalize(word)
        if name in names:
            raise SgfluxError(f"predicates: {names[name]!r} and {word!r} both mean {name!r}")
        names[name] = word
    if not names:
        raise SgfluxError("predicates: at least one is needed")
    return tuple(sorted(names))


def class_of(word: str, aliases: dict[str, str]) -> str:
    """Return the canonical predicate of a raw one: by our table, else by the source's aliases."""
    cleaned = clean(word)
    if not cleaned:
        return ""
    if cleaned in DEFAULT_VOCABULARY:
        return DEFAULT_VOCABULARY.normalize(cleaned)
    return DEFAULT_VOCABULARY.normalize(aliases.get(cleaned, cleaned))


def find_candidates(
    table: Annotations,
    *,
    classes: Sequence[str],
    images_dir: Path,
    min_box_area: float,
) -> Candidates:
    """Drop what cannot be an example, one reason after the other.

    Args:
        table: all relationships.
        classes: the predicates asked for, canonical and sorted.
        images_dir: Folder of the pictures; only the names of its files are read here.
        min_box_area: Least area of each of the two boxes inside the picture, square pixels.

    Raises:
        SgfluxError: if no relationship has one of the predicates.
    """
    relations, objects = table.relations, table.objects
    number = {name: i for i, name in enumerate(classes)}
    canonical = [class_of(word, table.relation_aliases) for word in table.predicates]
    of_word = np.array([number.get(name, -1) for name in canonical], dtype=np.int64)
    labels = of_word[relations.predicates] if len(relations) else np.zeros(0, dtype=np.int64)
    counts = Counter(dict(enumerate(np.bincount(relations.predicates).tolist())))
    others: Counter[str] = Counter()
    for word, label in enumerate(of_word.tolist()):
        if label < 0 and counts[word]:
            others[canonical[word]] += counts[word]
    ledger = Ledger(tuple(classes), {})
    ledger.found.update(ledger.by_class(labels))
    keep = labels >= 0
    if not keep.any():
        raise SgfluxError(
            f"none of the {len(relations)} relationships has one of the predicates "
            f"{list(classes)}; the most frequent ones are {[w for w, _ in others.most_common(8)]}"
        )

    def drop(reason: str, mask: np.ndarray) -> None:
        nonlocal keep
        keep = ledger.drop(reason, labels, keep, mask)

    subjects, targets = relations.subjects, relations.objects
    subject_names, target_names = objects.names[subjects], objects.names[targets]
    drop("the picture's file is missing", missing_files(table, images_dir)[relations.images])
    nameless = np.array([not name for name in table.names], dtype=bool)
    drop("an object has no name", nameless[subject_names] | nameless[target_names])
    drop("it relates an object to itself", subjects == targets)
    drop("subject and object have the same name", subject_names == target_names)
    boxes = clipped_boxes(objects.boxes, table.images.sizes[objects.images])
    moved = int((boxes != objects.boxes).any(axis=1).sum())
    table.quirks["boxes that leave the picture, cut at its border"] += moved
    area = boxes[:, 2] * boxes[:, 3]
    drop("a box is empty or outside of the picture", (area[subjects] <= 0) | (area[targets] <= 0))
    small = np.minimum(area[subjects], area[targets]) < min_box_area
    drop(f"a box has less than {min_box_area:g} square pixels", small)
    drop(
        "the same is stated of the picture before (in other words, inverted or by a second "
        "annotation)",
        _repeated(table, labels, keep, classes),
    )
    return Candidates(
        labels=labels,
        keep=keep,
        boxes=boxes,
        ledger=ledger,
        other_predicates=dict(others.most_common(_UNKNOWN_SHOWN)),
    )


def clipped_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the part of each box inside of its picture, (O, 4) float32; sides of 0 if none.

    Args:
        boxes: (left, top, width, height), (O, 4).
        sizes: (width, height) of each one's picture, (O, 2); 0 if unknown: only the upper left
            border counts then.
    """
    limit = np.where(sizes > 0, sizes, np.inf).astype(np.float32)
    start = np.clip(boxes[:, :2], 0, limit)
    stop = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limit)
    clipped = np.concatenate([start, np.maximum(stop - start, 0)], axis=1).astype(np.float32)
    # What lies inside keeps its exact numbers.
    inside = ((boxes[:, :2] >= 0) & (boxes[:, :2] + boxes[:, 2:] <= limit)).all(axis=1)
    return np.where(inside[:, None], np.maximum(boxes, 0), clipped)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two boxes (left, top, width, height)."""
    stop = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    sides = np.maximum(stop - np.maximum(first[:2], second[:2]), 0)
    shared = float(sides[0] * sides[1])
    total = float(first[2] * first[3] + second[2] * second[3]) - shared
    return shared / total if total > 0 else 0.0


def _repeated(
    table: Annotations, labels: np.ndarray, keep: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Return which kept relationships repeat, by name, one before them, (R,) bool.

    Of "A above B" and "B below A", or "A near B" and "B near A", the first one stays.
    """
    rows = np.flatnonzero(keep)
    relations, objects = table.relations, table.objects
    number = {name: i for i, name in enumerate(classes)}
    turned = np.zeros(len(classes), dtype=bool)
    statement = np.arange(len(classes))
    symmetric = np.array([DEFAULT_VOCABULARY.is_symmetric(name) for name in classes], dtype=bool)
    for name, i in number.items():
        inverse = DEFAULT_VOCABULARY.inverse(name)
        if inverse in number and inverse < name:
            turned[i], statement[i] = True, number[inverse]
    label = labels[rows]
    subject = objects.names[relations.subjects[rows]]
    target = objects.names[relations.objects[rows]]
    swap = turned[label] | (symmetric[label] & (target < subject))
    first, second = np.where(swap, target, subject), np.where(swap, subject, target)
    groups = table.images.groups[relations.images[rows]]
    size = max(len(table.names), 1)
    key = ((groups * len(classes) + statement[label]) * size + first) * size + second
    _, kept = np.unique(key, return_index=True)
    repeated = np.zeros(len(relations), dtype=bool)
    repeated[rows] = True
    repeated[rows[kept]] = False
    return repeated
