"""Choosing, and looking at what was chosen: until every picture decodes and every row is sound.

Only chosen pictures are decoded: a broken one is struck off, counted, and replaced by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sgflux.data.annotations.filters import Candidates, clipped_boxes
from sgflux.data.annotations.rows import RowMaker
from sgflux.data.annotations.splits import Choice, Combination, Pool, choose, is_one_of
from sgflux.data.annotations.table import SPLITS, Annotations
from sgflux.data.check import CHECKED_NEGATIVES
from sgflux.data.examples import SceneExample, known_graphs
from sgflux.data.files import UnreadableFileError
from sgflux.data.images import picture_sizes
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import Negatives

_MISSING_NEGATIVE = "no swap and no other predicate is surely false of the picture"
_SMALL_BOX = "a box is empty or too small inside of the decoded picture"
_OTHER_SIZE = "the picture has another size than the release says, so boxes cannot be trusted"
_BROKEN = "the picture cannot be decoded"
_UNREADABLE = "the picture's file cannot be read"


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen.

    Attributes:
        examples: Examples by split, in a random order.
        choice: the relationships they are, and what came short.
        broken: image path -> why its picture is of no use.
        sizes: image path -> (width, height) of the decoded pictures.
    """

    examples: Mapping[str, list[SceneExample]]
    choice: Choice
    broken: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]


def make_pool(table: Annotations, candidates: Candidates) -> Pool:
    """Return the pool of the candidates."""
    rows = np.flatnonzero(candidates.keep)
    relations, names = table.relations, table.objects.names
    images = relations.images[rows]
    labels = candidates.labels[rows]
    combinations = [names[relations.subjects[rows]], labels, names[relations.objects[rows]]]
    return Pool(
        rows=rows,
        labels=labels,
        groups=table.images.groups[images],
        splits=table.images.splits[images].astype(np.int64),
        combinations=np.stack(combinations, axis=1),
    )


def select(
    maker: RowMaker,
    pool: Pool,
    wanted: Mapping[str, Sequence[int]],
    *,
    images_dir: Path,
    min_box_area: float,
    seed: int,
    held_out: Sequence[Combination] = (),
    progress: bool = False,
) -> Selection:
    """Choose, look, strike off and choose again until nothing is wrong.

    What is struck off is added to the candidates' ledger.

    Args:
        maker: words the rows; with whole graphs, a picture gives one row.
        pool: Candidates to choose from.
        wanted: split -> examples of each class.
        images_dir: the folder of the pictures.
        min_box_area: Least area of both boxes inside the decoded picture, square pixels.
        seed: decides everything random.
        held_out: combinations for the test split alone.
        progress: show bars on stderr.
    """
    review = _Review(maker, pool, images_dir, min_box_area, held_out)
    while True:
        choice = choose(
            pool,
            wanted,
            seed=seed,
            held_out=held_out,
            bad_groups=frozenset(review.bad_groups),
            bad_rows=frozenset(review.bad_rows),
            one_per_picture=maker.whole_graphs,
        )
        if review.strike_off(choice, progress=progress):
            continue
        review.write_down()
        return Selection(
            examples={
                split: [review.examples[row] for row in choice.rows[split]] for split in SPLITS
            },
            choice=choice,
            broken=dict(sorted(review.broken.items())),
            sizes={
                path: size
                for path, size in review.sizes.items()
                if not isinstance(size, SgfluxError)
            },
        )


@dataclass(eq=False)
class _Review:
    """What has been looked at so far."""

    maker: RowMaker
    pool: Pool
    images_dir: Path
    min_box_area: float
    held_out: Sequence[Combination]
    bad_groups: dict[int, str] = field(default_factory=dict)
    bad_rows: dict[int, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int] | SgfluxError] = field(default_factory=dict)
    examples: dict[int, SceneExample] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._held = set(self.pool.rows[is_one_of(self.pool.combinations, self.held_out)].tolist())

    def strike_off(self, choice: Choice, *, progress: bool) -> bool:
        """Look at what was not looked at before; whether anything was wrong."""
        images, relations = self.maker.table.images, self.maker.table.relations
        before = len(self.bad_groups) + len(self.bad_rows)
        new = [
            (split, row)
            for split in SPLITS
            for row in choice.rows[split]
            if row not in self.examples
        ]
        unseen = {images.paths[relations.images[row]] for _, row in new} - set(self.sizes)
        if unseen:
            self.sizes.update(picture_sizes(sorted(unseen), self.images_dir, progress=progress))
        for split, row in new:
            self._look_at(row, split)
        # A row's split may change from one choice to the next.
        for split in SPLITS:
            for row in choice.rows[split]:
                if row in self.examples and self.examples[row].meta["split"] != split:
                    self._word(row, split)
        return len(self.bad_groups) + len(self.bad_rows) > before

    def write_down(self) -> None:
        """Add what was struck off to the ledger, by reason."""
        ledger = self.maker.candidates.ledger
        left = np.ones(len(self.pool.rows), dtype=bool)
        struck = [(reason, self.pool.groups, number) for number, reason in self.bad_groups.items()]
        struck += [(reason, self.pool.rows, number) for number, reason in self.bad_rows.items()]
        for reason in (_UNREADABLE, _BROKEN, _OTHER_SIZE, _SMALL_BOX, _MISSING_NEGATIVE):
            mask = np.zeros(len(left), dtype=bool)
            for why, column, number in struck:
                if why == reason:
                    mask |= column == number
            mask &= left
            left &= ~mask
            ledger.count(reason, self.pool.labels[mask], self.pool.labels[left])

    def _look_at(self, row: int, split: str) -> None:
        table = self.maker.table
        image = int(table.relations.images[row])
        path, group = table.images.paths[image], int(table.images.groups[image])
        size = self.sizes[path]
        if isinstance(size, SgfluxError):
            reason = _UNREADABLE if isinstance(size, UnreadableFileError) else _BROKEN
            self.bad_groups[group], self.broken[path] = reason, str(size)
            return
        told = tuple(table.images.sizes[image].tolist())
        if told != (0, 0) and told != size:
            self.bad_groups[group] = _OTHER_SIZE
            self.broken[path] = f"{size[0]} x {size[1]} pixels instead of {told[0]} x {told[1]}"
            return
        ends = [int(table.relations.subjects[row]), int(table.relations.objects[row])]
        boxes = clipped_boxes(self.maker.candidates.boxes[ends], np.array([size, size]))
        if float((boxes[:, 2] * boxes[:, 3]).min()) < max(self.min_box_area, 1e-6):
            self.bad_rows[row] = _SMALL_BOX
            return
        self._word(row, split)
        example = self.examples[row]
        truth = known_graphs([example])[example.picture]
        negatives = Negatives(example.graph, known=truth)
        if not set(negatives.kinds()) & set(CHECKED_NEGATIVES):
            self.bad_rows[row] = _MISSING_NEGATIVE
            del self.examples[row]

    def _word(self, row: int, split: str) -> None:
        path = self.maker.table.images.paths[int(self.maker.table.relations.images[row])]
        size = self.sizes[path]
        assert not isinstance(size, SgfluxError), "looked at before"
        self.examples[row] = self.maker.example(
            row,
            split=split,
            size=size,
            extra={"split": split, "held_out_combination": row in self._held},
        )
