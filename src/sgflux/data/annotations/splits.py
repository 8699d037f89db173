"""Three sets, balanced by predicate, disjoint by picture, the same for the same seed.

A picture belongs to the first split that one of its relationships is chosen for. Rare predicates
choose first; each takes its test and validation examples before its training examples, one of a
picture as long as there are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgflux.data.annotations.table import ANY_SPLIT, SPLITS

Combination = tuple[int, int, int]
"""(subject name, class, object name), as numbers."""

_TRAIN, _VAL, _TEST = range(len(SPLITS))
_ORDER_KEY, _HOLD_OUT_KEY = 0, 1
_LARGEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Pool:
    """What may be chosen from.

    Attributes:
        rows: the relationships, ascending, (n,) int64.
        labels: Classes of the rows, (n,) int64.
        groups: Pictures of the rows, (n,) int64.
        splits: the split of each one's picture as the form has it, or ``ANY_SPLIT``, (n,) int64.
        combinations: (subject name, class, object name) of each, (n, 3) int64.
    """

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray
    combinations: np.ndarray


@dataclass(frozen=True)
class Shortage:
    """A class that has fewer examples than asked for."""

    split: str
    label: int
    wanted: int
    found: int


@dataclass(frozen=True)
class Choice:
    """The chosen relationships.

    Attributes:
        rows: Rows by split, in a random order.
        shortages: classes that came short.
    """

    rows: Mapping[str, list[int]]
    shortages: tuple[Shortage, ...]


def choose(
    pool: Pool,
    wanted: Mapping[str, Sequence[int]],
    *,
    seed: int,
    held_out: Sequence[Combination] = (),
    bad_groups: frozenset[int] = frozenset(),
    bad_rows: frozenset[int] = frozenset(),
    one_per_picture: bool = False,
) -> Choice:
    """Choose rows for every split and class.

    Args:
        pool: the candidates.
        wanted: split -> examples of each class.
        seed: decides everything.
        held_out: combinations that the training and validation splits must not show: their
            pictures are not used there. Half of each class' test examples have one, as far as
            there are so many.
        bad_groups: pictures that turned out to be of no use.
        bad_rows: relationships that did.
        one_per_picture: a picture gives one example at most.
    """
    chooser = _Chooser(pool, held_out, bad_groups, bad_rows, one_per_picture)
    classes = len(wanted["train"])
    scarcity = [len(np.unique(pool.groups[pool.labels == label])) for label in range(classes)]
    chosen: dict[str, list[int]] = {split: [] for split in SPLITS}
    shortages = []
    for label in sorted(range(classes), key=lambda label: (scarcity[label], label)):
        members = np.flatnonzero(pool.labels == label)
        members = members[_rng(seed, _ORDER_KEY, label).permutation(len(members))]
        order = members.tolist()
        for number in (_TEST, _VAL, _TRAIN):
            count = wanted[SPLITS[number]][label]
            taken: list[int] = []
            if number == _TEST and held_out:
                taken = chooser.take(order, number, (count + label % 2) // 2, only_held_out=True)
            taken += chooser.take(order, number, count - len(taken))
            chosen[SPLITS[number]] += taken
            if len(taken) < count:
                shortages.append(Shortage(SPLITS[number], label, count, len(taken)))
    for number, split in enumerate(SPLITS):
        rows = pool.rows[np.array(chosen[split], dtype=np.int64)]
        shuffled = _rng(seed, _ORDER_KEY, classes + number).permutation(len(rows))
        chosen[split] = rows[shuffled].tolist()
    return Choice(rows=chosen, shortages=tuple(shortages))


def choose_combinations(pool: Pool, count: int, *, classes: int, seed: int) -> list[Combination]:
    """Return up to ``count`` combinations to hold out, spread over the classes.

    None makes up more than a fifth of its class' pictures, so that training keeps enough.
    """
    rng = _rng(seed, _HOLD_OUT_KEY)
    queues: list[list[Combination]] = []
    for label in range(classes):
        members = pool.labels == label
        seen = np.unique(
            np.column_stack([pool.combinations[members], pool.groups[members]]), axis=0
        )
        kinds, pictures = np.unique(seen[:, :3], axis=0, return_counts=True)
        total = len(np.unique(pool.groups[members]))
        fitting = kinds[pictures <= _LARGEST_SHARE * total]
        queues.append([(int(s), int(p), int(o)) for s, p, o in rng.permutation(fitting)])
    held_out: list[Combination] = []
    while len(held_out) < count and any(queues):
        for queue in queues:
            if queue and len(held_out) < count:
                held_out.append(queue.pop())
    return held_out


def spread(total: int, classes: int) -> list[int]:
    """Spread ``total`` examples evenly over the classes; the first ones get what is left over."""
    return [total // classes + (label < total % classes) for label in range(classes)]


class _Chooser:
    """Which picture is in which split, while examples are taken."""

    def __init__(
        self,
        pool: Pool,
        held_out: Sequence[Combination],
        bad_groups: frozenset[int],
        bad_rows: frozenset[int],
        one_per_picture: bool,
    ) -> None:
        self._groups = pool.groups.tolist()
        self._splits = pool.splits.tolist()
        self._one_per_picture = one_per_picture
        self._bad_groups = bad_groups
        usable = ~np.isin(pool.rows, np.fromiter(bad_rows, np.int64, len(bad_rows)))
        self._usable = usable.tolist()
        self._held_out = is_one_of(pool.combinations, held_out).tolist()
        self._shows_held_out = {
            group for group, held in zip(self._groups, self._held_out, strict=True) if held
        }
        self._split_of: dict[int, int] = {}
        self._taken: set[int] = set()

    def take(
        self, order: Sequence[int], split: int, count: int, *, only_held_out: bool = False
    ) -> list[int]:
        """Return up to ``count`` members of a class in ``order``; a picture's second comes last."""
        taken: list[int] = []
        pictures: set[int] = set()
        for may_repeat in (False, True):
            if may_repeat and self._one_per_picture:
                break
            for member in order:
                if len(taken) >= count:
                    return taken
                group = self._groups[member]
                if (group in pictures) is not may_repeat or not self._may_take(member, split):
                    continue
                if only_held_out and not self._held_out[member]:
                    continue
                taken.append(member)
                pictures.add(group)
                self._taken.add(member)
                self._split_of[group] = split
        return taken

    def _may_take(self, member: int, split: int) -> bool:
        group = self._groups[member]
        if not self._usable[member] or member in self._taken or group in self._bad_groups:
            return False
        if self._splits[member] not in (ANY_SPLIT, split):
            return False
        if split != _TEST and group in self._shows_held_out:
            return False
        if self._one_per_picture and group in self._split_of:
            return False
        return self._split_of.get(group, split) == split


def is_one_of(combinations: np.ndarray, held_out: Sequence[Combination]) -> np.ndarray:
    """Return which rows of ``combinations`` are held out, (n,) bool."""
    wanted = set(held_out)
    if not wanted:
        return np.zeros(len(combinations), dtype=bool)
    rows = combinations.tolist()
    return np.array([(s, p, o) in wanted for s, p, o in rows], dtype=bool)


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
