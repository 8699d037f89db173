"""Splits of any data: disjoint, as balanced as asked for, and the same for the same seed.

If one of these failed, test pictures would be trained on, or the same command would give other
splits tomorrow.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.data.annotations.splits import Choice, Pool, choose, choose_combinations, spread
from sgflux.data.annotations.table import SPLITS

CLASSES = 4


def make_pool(
    seed: int, rows: int, pictures: int, *, names: int = 6, assigned: bool = False
) -> Pool:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    groups = rng.integers(0, pictures, rows)
    split_of = rng.integers(0, 3, pictures) if assigned else np.full(pictures, -1)
    combinations = np.stack(
        [rng.integers(0, names, rows), labels, rng.integers(0, names, rows)], axis=1
    )
    return Pool(
        rows=np.arange(rows) * 3,
        labels=labels,
        groups=groups,
        splits=split_of[groups],
        combinations=combinations,
    )


def places(pool: Pool, rows: list[int]) -> list[int]:
    return [row // 3 for row in rows]


def pictures_of(pool: Pool, choice: Choice, split: str) -> set[int]:
    return set(pool.groups[places(pool, choice.rows[split])].tolist())


pools = st.builds(
    make_pool,
    st.integers(0, 10_000),
    st.integers(1, 400),
    st.integers(1, 150),
    assigned=st.booleans(),
)
counts = st.lists(st.integers(0, 12), min_size=CLASSES, max_size=CLASSES)
asked = st.fixed_dictionaries(dict.fromkeys(SPLITS, counts))


@settings(max_examples=80, deadline=None)
@given(pool=pools, wanted=asked, seed=st.integers(0, 99), single=st.booleans(), hold=st.booleans())
def test_splits_are_disjoint_balanced_or_short_and_reproducible(pool, wanted, seed, single, hold):
    held_out = choose_combinations(pool, 3 * hold, classes=CLASSES, seed=seed)
    choice = choose(pool, wanted, seed=seed, held_out=held_out, one_per_picture=single)
    assert choice == choose(pool, wanted, seed=seed, held_out=held_out, one_per_picture=single)

    pictures = [pictures_of(pool, choice, split) for split in SPLITS]
    assert not pictures[0] & pictures[1]
    assert not (pictures[0] | pictures[1]) & pictures[2]
    everything = [row for split in SPLITS for row in choice.rows[split]]
    assert len(everything) == len(set(everything))

    short = {(one.split, one.label): one.found for one in choice.shortages}
    for number, split in enumerate(SPLITS):
        members = places(pool, choice.rows[split])
        found = Counter(pool.labels[members].tolist())
        for label in range(CLASSES):
            assert found[label] == short.get((split, label), wanted[split][label])
            assert found[label] <= wanted[split][label]
        assert set(pool.splits[members].tolist()) <= {-1, number}
        if single:
            assert len(members) == len(set(pool.groups[members].tolist()))
        if split != "test":
            shown = {tuple(combination) for combination in pool.combinations[members].tolist()}
            assert not shown & set(held_out)


def test_what_there_is_plenty_of_is_balanced_exactly():
    pool = make_pool(1, 5000, 3000)
    wanted = {"train": [50] * CLASSES, "val": [10] * CLASSES, "test": [10] * CLASSES}
    choice = choose(pool, wanted, seed=42)
    assert choice.shortages == ()
    assert [len(choice.rows[split]) for split in SPLITS] == [200, 40, 40]
    # One example of a picture and predicate as long as there are other pictures.
    members = places(pool, choice.rows["train"])
    assert max(Counter(zip(pool.groups[members], pool.labels[members], strict=True)).values()) == 1
    assert choose(pool, wanted, seed=43) != choice


def test_bad_pictures_and_rows_are_replaced():
    pool = make_pool(2, 1000, 500)
    wanted = {"train": [5] * CLASSES, "val": [0] * CLASSES, "test": [2] * CLASSES}
    choice = choose(pool, wanted, seed=0)
    bad = frozenset(pictures_of(pool, choice, "train"))
    rows = frozenset(choice.rows["test"])
    again = choose(pool, wanted, seed=0, bad_groups=bad, bad_rows=rows)
    assert not pictures_of(pool, again, "train") & bad
    assert not rows & {row for split in SPLITS for row in again.rows[split]}
    assert not again.shortages


def test_held_out_combinations_are_in_the_test_split_alone():
    pool = make_pool(3, 3000, 2500, names=12)
    held_out = choose_combinations(pool, 8, classes=CLASSES, seed=0)
    assert len(set(held_out)) == 8
    assert Counter(label for _, label, _ in held_out) == dict.fromkeys(range(CLASSES), 2)
    wanted = {"train": [20] * CLASSES, "val": [5] * CLASSES, "test": [10] * CLASSES}
    choice = choose(pool, wanted, seed=0, held_out=held_out)
    shown = {
        split: [tuple(c) for c in pool.combinations[places(pool, choice.rows[split])].tolist()]
        for split in SPLITS
    }
    assert not set(held_out) & {*shown["train"], *shown["val"]}
    assert sum(combination in held_out for combination in shown["test"]) >= 4 * CLASSES
    # Not even as another statement about a training picture.
    held_pictures = {
        group
        for group, c in zip(pool.groups.tolist(), pool.combinations.tolist(), strict=True)
        if tuple(c) in held_out
    }
    assert not held_pictures & pictures_of(pool, choice, "train")


def test_a_total_is_spread_evenly():
    assert spread(10, 4) == [3, 3, 2, 2]
    assert spread(0, 2) == [0, 0]
