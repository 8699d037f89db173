"""Test data that were trained or selected on are noticed by what they are, not by their names.

If one of these failed, an adapter would be measured on pictures or rows that it was trained on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgflux.cli import main
from sgflux.data.examples import SceneExample
from sgflux.data.seen_rows import SEEN_FILE, row_digests, seen_bytes
from sgflux.errors import SgfluxError
from sgflux.evaluation.overlap import check_overlap
from sgflux.evaluation.real_pictures import RealPictures
from sgflux.world.dataset import write_world
from tests.helpers.graph_examples import example
from tests.helpers.rows import file_digests


def picture(root: Path, one: SceneExample, color: str) -> SceneExample:
    path = root / one.image_rel_path
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)
    return one


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    train = [
        picture(tmp_path / "a", example("man, riding, horse", number=0), "red"),
        picture(tmp_path / "a", example("cat, above, box", number=1), "green"),
    ]
    val = [picture(tmp_path / "a", example("dog, on, box", number=2), "blue")]
    digests = {
        name: row_digests(rows, file_digests(rows, tmp_path / "a"))
        for name, rows in (("training", train), ("validation", val))
    }
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / SEEN_FILE).write_bytes(seen_bytes(digests))
    return tmp_path / "final"


def check(bundle: Path, rows: list[SceneExample], *, allowed: bool = False) -> dict[str, object]:
    pictures = RealPictures(bundle.parent / "b")
    return check_overlap(bundle, rows, pictures, data=Path("test.jsonl"), allowed=allowed)


def test_seen_pictures_are_refused_under_any_name(bundle: Path, tmp_path: Path) -> None:
    fresh = picture(tmp_path / "b", example("man, on, box", number=5), "yellow")
    assert check(bundle, [fresh])["checked"] is True
    # The same statement in the words of its inverse, on a renamed copy of the picture.
    copied = picture(tmp_path / "b", example("box, below, cat", number=7), "green")
    with pytest.raises(
        SgfluxError, match=r"1 of its pictures and 1 of its 2 rows are of the train"
    ):
        check(bundle, [fresh, copied])
    selected = picture(tmp_path / "b", example("dog, above, box", number=8), "blue")
    with pytest.raises(SgfluxError, match=r"1 of its pictures and 0 .* of the validation data"):
        check(bundle, [selected])
    named = check(bundle, [copied], allowed=True)
    assert named["training"] == {"pictures": 1, "rows": 1}
    assert "of the training data" in str(named["text"])


def test_an_old_bundle_is_not_checked_and_a_damaged_one_is_named(
    bundle: Path, tmp_path: Path
) -> None:
    fresh = picture(tmp_path / "b", example("man, on, box", number=5), "yellow")
    (bundle / SEEN_FILE).write_bytes(b"\xff" * 100)
    with pytest.raises(SgfluxError, match=f"{SEEN_FILE}: is damaged"):
        check(bundle, [fresh])
    shutil.rmtree(bundle)
    bundle.mkdir()
    assert check(bundle, [fresh]) == {
        "checked": False,
        "text": "overlap with training data not checked",
    }


def test_a_hundred_thousand_rows_stay_small() -> None:
    numbers = np.arange(100_000, dtype=np.uint64)
    assert len(seen_bytes({"training": {"rows": numbers, "pictures": numbers}})) < 2_000_000


def test_the_files_of_a_training_are_refused_as_test_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `sgflux train` to `sgflux eval`, whatever the copied file and folder are called."""
    world = tmp_path / "world"
    write_world(world, train_per_class=1, val_per_class=1, test_per_class=1, triples="1")
    words = f"train --model-id tiny --train-jsonl {world}/train.jsonl --max-steps 1 --batch-size 1"
    words += f" --val-jsonl {world}/validation.jsonl --val-examples 2 --output-dir {tmp_path}/run"
    words += " --sample-steps 0 --device cpu --height 64 --width 64"
    assert main(words.split()) == 0
    shutil.copytree(world, tmp_path / "copied")
    evaluation = f"eval --adapter {tmp_path}/run/final --model-id tiny --device cpu --items 2"
    evaluation += " --judge none --ranking-sigmas 0 --arms graph --steps 1"
    capsys.readouterr()
    for split, status in (("train", 2), ("validation", 2), ("test", 0)):
        out = f" --data {tmp_path}/copied/{split}.jsonl --output-dir {tmp_path}/{split}"
        assert main((evaluation + out).split()) == status
        said = capsys.readouterr()
        if status:
            assert "--allow-seen-data" in said.err
        else:
            assert "no picture of it was trained or selected on" in said.out
    out = f" --data {tmp_path}/copied/train.jsonl --output-dir {tmp_path}/named --allow-seen-data"
    assert main((evaluation + out).split()) == 0
    page = (tmp_path / "named/report.html").read_text("utf-8")
    assert "24 of its pictures and 24 of its 24 rows are of the training data" in page
