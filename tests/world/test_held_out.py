"""What the test split of a world alone has: spread over the objects, and checked by name.

If one of these failed, a word that training is to leave out would be trained on.
"""

from __future__ import annotations

import pytest

from sgflux.data.examples import read_examples
from sgflux.errors import SgfluxError
from sgflux.world.dataset import write_world
from sgflux.world.held_out import held_out_pairs
from sgflux.world.icons import OBJECT_NAMES


def test_held_out_pairs_are_spread_over_the_objects():
    n = len(OBJECT_NAMES)
    for seed in range(20):
        few = held_out_pairs((n + 1) // 2, seed=seed)
        assert {name for pair in few for name in pair} == set(OBJECT_NAMES)
        many = held_out_pairs(n, seed=seed)
        assert many[: len(few)] == few
        assert {first for first, _ in many} == {second for _, second in many} == set(OBJECT_NAMES)
        most = held_out_pairs(n * (n - 1) // 2, seed=seed)
        assert len(set(most)) == n * (n - 1) // 2
        assert all(first != second for first, second in most)
    assert held_out_pairs(5, seed=0) != held_out_pairs(5, seed=1)


def test_what_is_left_out_occurs_in_the_test_split_alone(tmp_path):
    gone, missing = ("riding", "left of"), ("dog", "cup")
    summary = write_world(
        tmp_path / "world",
        train_per_class=2,
        val_per_class=1,
        test_per_class=2,
        triples="1,2,3",
        twins=0.5,
        leave_out_predicates=gone,
        leave_out_objects=missing,
    )
    assert summary["arguments"]["leave_out_predicates"] == list(gone)
    assert summary["arguments"]["leave_out_objects"] == list(missing)
    for split, per_class in (("train", 2), ("validation", 1), ("test", 2)):
        rows = read_examples(tmp_path / "world" / f"{split}.jsonl")
        words = {triple.predicate for row in rows for triple in row.graph.triples()}
        names = {name for row in rows for name in row.graph.objects}
        everything = split == "test"
        assert words.isdisjoint(gone) is not everything
        assert names.isdisjoint(missing) is not everything
        assert len(rows) == per_class * (24 if everything else 22)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leave_out_predicates": ["above", "over"]}, r"the world has no \['over'\]"),
        ({"leave_out_objects": ["owl"]}, r"leave_out_objects: the world has no \['owl'\]"),
        ({"leave_out_objects": OBJECT_NAMES[:13]}, "leaves 1 of 14 to train on"),
        ({"leave_out_objects": ["dog"], "train_per_class": 0}, "no effect on the test split"),
    ],
)
def test_what_cannot_be_left_out(tmp_path, changes: dict, message: str):
    counts = {"train_per_class": 1, "val_per_class": 0, "test_per_class": 1}
    with pytest.raises(SgfluxError, match=message):
        write_world(tmp_path / "world", **{**counts, **changes})
    assert not (tmp_path / "world").exists()
