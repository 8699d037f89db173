"""The rows of a world's split: how many there are of each kind, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sgflux.errors import SgfluxError
from sgflux.world.held_out import NamePair
from sgflux.world.scenes import PREDICATES
from sgflux.world.shapes import MAX_STATEMENTS, Shape
from sgflux.world.streams import Stream, stream_of_split


@dataclass(frozen=True)
class Row:
    """What the picture of a row is to show.

    Attributes:
        predicate: Canonical predicate of the first triple.
        triples: Number of triples.
        pair: Held-out names of the first triple's subject and object; None: any that are not.
        shape: Shape of the graph; None: what a scene of so many triples usually has.
    """

    predicate: str
    triples: int
    pair: NamePair | None
    shape: Shape | None = None


def parse_triples(triples: int | str) -> tuple[int, ...]:
    """Return the numbers of triples a scene may have: 2 -> (2,), "1,2" -> (1, 2).

    Raises:
        SgfluxError: if they are not different numbers from 1 to 4.
    """
    try:
        sizes = tuple(int(part) for part in str(triples).split(","))
    except ValueError:
        sizes = ()
    if (
        not sizes
        or len(set(sizes)) < len(sizes)
        or not all(1 <= n <= MAX_STATEMENTS for n in sizes)
    ):
        raise SgfluxError(
            f"triples must be numbers from 1 to {MAX_STATEMENTS}, each once, like 1 or '1,2,3', "
            f"got {triples!r}"
        )
    return sizes


def plan_rows(
    split: str,
    per_class: int,
    *,
    sizes: tuple[int, ...],
    held_out: Sequence[NamePair],
    seed: int,
    predicates: Sequence[str],
) -> list[Row]:
    """Return the rows of a split in random order.

    Sizes alternate within each class. In a test split with held-out pairs, the first half of each
    class has them (of an odd class, alternately the larger and the smaller half).

    Args:
        split: Name of the split.
        per_class: Number of rows of each predicate.
        sizes: Numbers of triples of a scene.
        held_out: Pairs of names that only the test split has.
        seed: Seed of the data set.
        predicates: Canonical predicates that the split may have.
    """
    rows = []
    used = 0
    for class_id, predicate in enumerate(PREDICATES):
        if predicate not in predicates:
            continue
        with_pair = (per_class + class_id % 2) // 2 if held_out and split == "test" else 0
        for i in range(per_class):
            pair = None
            if i < with_pair:
                pair = held_out[used % len(held_out)]
                used += 1
            rows.append(Row(predicate, sizes[(i + class_id) % len(sizes)], pair))
    order = stream_of_split(seed, Stream.ORDER, split).permutation(len(rows))
    return [rows[i] for i in order]
