"""The bundled world on disk: balanced, disjoint, reproducible, held out as promised.

If one of these failed, training and test worlds would overlap, or a held-out combination would be
trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sgflux.data.check import check_dataset
from sgflux.data.examples import SceneExample, read_examples
from sgflux.errors import SgfluxError
from sgflux.world import dataset as world_dataset
from sgflux.world import scenes as world_scenes
from sgflux.world.dataset import write_world
from sgflux.world.scenes import PREDICATES

SPLITS = ("train", "validation", "test")


def write(out_dir: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "train_per_class": 1,
        "val_per_class": 0,
        "test_per_class": 0,
        "resolution": 32,
        "seed": 5,
    }
    return write_world(out_dir, **{**arguments, **changes})


def pairs(example: SceneExample) -> list[tuple[str, str]]:
    return [(triple.subject, triple.object) for triple in example.graph.triples()]


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    out_dir = tmp_path_factory.mktemp("data") / "deep" / "world"
    summary = write(
        out_dir,
        train_per_class=4,
        val_per_class=2,
        test_per_class=4,
        triples="1,2",
        hold_out_combinations=10,
        command=["sgflux", "data", "world"],
    )
    return out_dir, summary


def test_splits_are_balanced_by_predicate_and_size(world):
    out_dir, summary = world
    for split, per_class in zip(SPLITS, (4, 2, 4), strict=True):
        examples = read_examples(out_dir / f"{split}.jsonl")
        assert Counter(e.triple.predicate for e in examples) == dict.fromkeys(PREDICATES, per_class)
        sizes = Counter((e.triple.predicate, len(e.graph.relationships)) for e in examples)
        assert set(sizes.values()) == {per_class // 2}
        assert summary["splits"][split]["rows"] == 24 * per_class
        assert summary["splits"][split]["predicates"] == dict.fromkeys(PREDICATES, per_class)
        assert summary["splits"][split]["triples"] == {"1": 12 * per_class, "2": 12 * per_class}


def test_rows_have_the_schema_and_pass_the_check(world):
    out_dir, _ = world
    for split, h5_split in zip(SPLITS, ("train", "val", "test"), strict=True):
        report = check_dataset(out_dir / f"{split}.jsonl")
        assert report.ok, report.to_text()
        for index, example in enumerate(read_examples(out_dir / f"{split}.jsonl")):
            triple = example.triple
            assert example.triple_index == 0
            assert example.concepts == (triple.subject, triple.predicate, triple.object)
            word = "near" if triple.predicate == "around/near" else triple.predicate
            assert example.prompt == f"a photo of {triple.subject} {word} {triple.object}"
            assert example.boxes is not None
            assert dict(example.meta) == {
                "image_rel_path": f"images/{split}/{index:06d}.png",
                "predicate_raw": triple.predicate,
                "class_id": PREDICATES.index(triple.predicate),
                "h5_split": h5_split,
                "img_idx": index,
                "rel_idx": 0,
                "split": split,
                "held_out_combination": example.meta["held_out_combination"],
            }


def test_no_picture_occurs_twice(world):
    out_dir, _ = world
    pictures = [digest for name, digest in files(out_dir).items() if name.endswith(".png")]
    assert len(pictures) == 24 * 10
    assert len(set(pictures)) == len(pictures)


def test_held_out_pairs_occur_in_half_of_the_test_rows_and_nowhere_else(world):
    out_dir, summary = world
    held_out = {tuple(pair) for pair in summary["held_out_pairs"]}
    assert len(held_out) == 10
    for split in ("train", "validation"):
        for example in read_examples(out_dir / f"{split}.jsonl"):
            assert not held_out & set(pairs(example))
            assert example.meta["held_out_combination"] is False
    test = read_examples(out_dir / "test.jsonl")
    flagged = Counter(e.triple.predicate for e in test if e.meta["held_out_combination"])
    assert flagged == dict.fromkeys(PREDICATES, 2)
    for example in test:
        first, *others = pairs(example)
        assert (first in held_out) is example.meta["held_out_combination"]
        assert not held_out & set(others)
    used = {pairs(example)[0] for example in test if example.meta["held_out_combination"]}
    assert used == held_out
    assert summary["splits"]["test"]["held_out_combination"] == 48


def test_the_summary_says_how_the_data_was_made(world):
    out_dir, summary = world
    assert json.loads((out_dir / "summary.json").read_text()) == summary
    assert summary["arguments"] == {
        "train_per_class": 4,
        "val_per_class": 2,
        "test_per_class": 4,
        "triples": "1,2",
        "resolution": 32,
        "seed": 5,
        "hold_out_combinations": 10,
    }
    assert summary["command"] == ["sgflux", "data", "world"]
    assert summary["sgflux_version"]
    assert summary["splits"]["test"]["sha256"] == files(out_dir)["test.jsonl"]


def test_equal_arguments_give_equal_files_and_another_seed_others(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    write(tmp_path / "c", seed=6)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    first, other = (
        {d for n, d in files(tmp_path / name).items() if n.endswith("png")} for name in "ac"
    )
    assert not first & other


def test_one_split_does_not_depend_on_the_others(tmp_path):
    write(tmp_path / "a", test_per_class=1)
    write(tmp_path / "b", train_per_class=0, test_per_class=1)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a["test.jsonl"] == b["test.jsonl"]
    assert "train.jsonl" not in b


def test_new_pictures_may_have_the_held_out_pairs_of_another_world(tmp_path, world):
    """An adapter is measured on pictures of its own, about the pairs that its training left out."""
    _, trained = world
    seeds = {"seed": trained["arguments"]["seed"] + 1}
    counts = {"train_per_class": 0, "test_per_class": 2, "hold_out_combinations": 10}
    other = write(tmp_path / "other", **counts, **seeds)
    assert other["held_out_pairs"] != trained["held_out_pairs"]
    seeds["hold_out_seed"] = trained["arguments"]["seed"]
    again = write(tmp_path / "again", **counts, **seeds)
    assert again["held_out_pairs"] == trained["held_out_pairs"]
    assert again["arguments"]["hold_out_seed"] == seeds["hold_out_seed"]
    assert "hold_out_seed" not in other["arguments"], "a world as before has the same files"
    new = {tuple(pair) for pair in trained["held_out_pairs"]}
    for row in read_examples(tmp_path / "again" / "test.jsonl"):
        pair = (row.triple.subject, row.triple.object)
        assert row.meta["held_out_combination"] is (pair in new)


def test_an_existing_folder_is_refused_unless_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    before = files(tmp_path / "empty")
    with pytest.raises(SgfluxError, match=r"empty' is there already; give a new folder"):
        write(tmp_path / "empty", seed=6)
    assert files(tmp_path / "empty") == before
    (tmp_path / "file").write_text("")
    with pytest.raises(SgfluxError, match="is there already"):
        write(tmp_path / "file")


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args: Any, **kwargs: Any) -> int:
        calls.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(world_dataset, "write_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "world")
    assert calls
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_there_already_is_drawn_again_then_given_up(tmp_path, monkeypatch):
    real = world_dataset.sample_scene
    drawn: list[Any] = []

    def repeating(rng: Any, **arguments: Any) -> Any:
        scene = real(rng, **arguments)
        drawn.append(scene)
        image = drawn[0].image if len(drawn) == 2 else scene.image
        return world_dataset.WorldScene(
            objects=scene.objects,
            relationships=scene.relationships,
            boxes=scene.boxes,
            image=image,
        )

    monkeypatch.setattr(world_dataset, "sample_scene", repeating)
    write(tmp_path / "world")
    assert len(drawn) == 25
    monkeypatch.setattr(world_dataset, "_ATTEMPTS", 1)
    drawn.clear()
    with pytest.raises(SgfluxError, match=r"train row 1: 1 scenes in a row"):
        write(tmp_path / "other")


def test_a_scene_without_room_is_drawn_again_then_given_up(tmp_path, monkeypatch):
    """A row has its predicate and shape, so other objects or places are all that can help."""
    real = world_scenes._render
    statements: list[Any] = []

    def crowded(rng: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(statement)
        return real(rng, statement, *args, **kwargs) if len(statements) > 2000 else None

    monkeypatch.setattr(world_scenes, "_render", crowded)
    write(tmp_path / "world")
    assert len(statements) == 2024
    assert statements[0] != statements[1], "the same random numbers would have no room again"
    monkeypatch.setattr(world_scenes, "_TRIES", 3)
    statements.clear()
    with pytest.raises(SgfluxError, match="no room for 1 triples"):
        write(tmp_path / "other")
    assert len(statements) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_per_class": -1}, "rows per class of 'train'"),
        ({"train_per_class": 0}, "no split has any rows"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"hold_out_seed": 3}, "hold_out_seed has no effect without hold_out_combinations"),
        (
            {"hold_out_combinations": 4, "test_per_class": 2, "hold_out_seed": -1},
            "hold_out_seed must be at least 0",
        ),
        ({"hold_out_combinations": 4}, "need a test split"),
        ({"hold_out_combinations": 10_000, "test_per_class": 2}, "must be from 0 to"),
        ({"resolution": 2}, "resolution"),
        ({"twins": 1.5, "triples": 2}, "twins must be a share from 0 to 1, got 1.5"),
        ({"twins": 0.5}, "twins need scenes of at least two triples"),
        ({"hold_out_shapes": ["ring"]}, "'ring' is neither the text of a graph .* nor the name"),
        ({"hold_out_shapes": ["star of 3"]}, "no scene of this world has the shape 'star of 3'"),
        ({"hold_out_shapes": ["man, on, box"]}, "holds out every shape of 1 triples without"),
        ({"hold_out_shapes": ["2 pairs"], "triples": 2}, "held-out shapes need a test split"),
    ],
)
def test_bad_arguments_leave_nothing(tmp_path, changes: dict, message: str):
    with pytest.raises(SgfluxError, match=message):
        write(tmp_path / "world", **changes)
    assert list(tmp_path.iterdir()) == []
