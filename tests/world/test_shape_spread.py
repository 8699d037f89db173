"""The shapes of a world's graphs: spread evenly, described, and held out as asked.

If one of these failed, an evaluation on held-out shapes would measure shapes that were trained on.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sgflux.data.check import check_dataset
from sgflux.data.examples import read_examples
from sgflux.errors import SgfluxError
from sgflux.world.dataset import write_world
from sgflux.world.shape_spread import Shapes
from sgflux.world.shapes import shape_of, shapes_of

MAN_AND_DOGS = "man, riding, horse; dog, left of, horse; dog#2, right of, horse; man, holding, cup"


@pytest.fixture(scope="module")
def shaped(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    out_dir = tmp_path_factory.mktemp("data") / "shaped"
    summary = write_world(
        out_dir,
        train_per_class=1,
        val_per_class=0,
        test_per_class=6,
        triples="1,3,4",
        twins=0.5,
        hold_out_combinations=8,
        hold_out_shapes=["star of 3", MAN_AND_DOGS],
        resolution=64,
        seed=5,
    )
    return out_dir, summary


def test_rows_say_which_shape_they_have(shaped):
    out_dir, summary = shaped
    held_out = {"star of 3", "fork of 4 with twins: end and end, 2 apart"}
    assert set(summary["arguments"]["hold_out_shapes"]) == held_out
    assert summary["arguments"]["twins"] == 0.5
    for split in ("train", "test"):
        examples = read_examples(out_dir / f"{split}.jsonl")
        for example in examples:
            names = example.graph.objects
            assert example.meta["shape"] == shape_of(example.graph)
            assert example.meta["twins"] is (len(set(names)) < len(names))
            assert example.meta["held_out_shape"] is (example.meta["shape"] in held_out)
        assert check_dataset(out_dir / f"{split}.jsonl").ok
        found = summary["splits"][split]
        assert sum(found["shapes"].values()) == found["rows"]
        assert found["twins"] == found["rows"] // 3, "half of those with more than one triple"


def test_held_out_shapes_are_every_second_of_their_kind_in_the_test_split_alone(shaped):
    out_dir, summary = shaped
    assert summary["splits"]["train"]["held_out_shape"] == 0
    test = read_examples(out_dir / "test.jsonl")
    kinds = Counter(
        (len(e.graph.relationships), e.meta["twins"], e.meta["held_out_shape"]) for e in test
    )
    for size, twins in ((3, False), (4, True)):
        assert kinds[size, twins, True] == kinds[size, twins, False] == 12
    assert kinds[3, True, True] == kinds[4, False, True] == 0
    assert summary["splits"]["test"]["held_out_shape"] == 24
    # Held-out pairs are held out as ever, and both occur together and alone.
    both = Counter((e.meta["held_out_combination"], e.meta["held_out_shape"]) for e in test)
    assert len(both) == 4


def test_shapes_are_spread_evenly(shaped):
    out_dir, _ = shaped
    examples = read_examples(out_dir / "test.jsonl")
    counts = Counter(
        e.meta["shape"] for e in examples if len(e.graph.relationships) == 4 and not e.meta["twins"]
    )
    assert len(counts) == 8
    assert max(counts.values()) - min(counts.values()) <= 2


def hubs(*, twins: bool) -> set[str]:
    """Shapes of four triples with an object in each of them: "around/near" has no room there."""
    return {
        shape.name
        for shape in shapes_of(4, twins=twins)
        if any(all(place in edge for edge in shape.edges) for place in range(8))
    }


@pytest.mark.parametrize("twins", [False, True])
def test_a_predicate_without_a_shape_that_has_room_is_refused_before_anything_is_drawn(
    tmp_path: Path, twins: bool
) -> None:
    names = {shape.name for shape in shapes_of(4, twins=twins)}
    roomy = sorted(names - hubs(twins=twins))
    assert roomy
    assert hubs(twins=twins)
    out_dir = tmp_path / "data"
    size = {"triples": "4", "twins": float(twins), "train_per_class": 1, "val_per_class": 0}
    with pytest.raises(SgfluxError, match=r"room for 'around/near'; leave one of") as refused:
        write_world(out_dir, **size, test_per_class=2, hold_out_shapes=roomy)
    assert all(name in str(refused.value) for name in roomy)
    assert not out_dir.exists()
    # One shape with room is enough, and a choice without this predicate needs none.
    Shapes.of((4,), twins=float(twins), held_out=roomy[1:])
    Shapes.of((4,), twins=float(twins), held_out=roomy, predicates=("above",))


def test_rows_have_a_shape_with_room_where_one_is_left(tmp_path: Path) -> None:
    roomy = sorted({shape.name for shape in shapes_of(4, twins=False)} - hubs(twins=False))
    out_dir = tmp_path / "data"
    write_world(
        out_dir,
        train_per_class=1,
        val_per_class=0,
        test_per_class=2,
        triples="4",
        hold_out_shapes=roomy[1:],
    )
    near = [
        example.meta["shape"]
        for example in read_examples(out_dir / "train.jsonl")
        if example.triple is not None and example.triple.predicate == "around/near"
    ]
    assert near == roomy[:1]
