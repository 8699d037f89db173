"""A reader of one's own: one function, one line in the table, and a data set that can be trusted.

Broken, a new data set would need a change in another room. The function is the one of
docs/extending.md.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sgflux.cli import main
from sgflux.data.annotations.pictures import AnnotatedObject, AnnotatedPicture, annotations_of
from sgflux.data.annotations.table import Annotations
from sgflux.data.boxes import Box
from sgflux.data.examples import read_examples
from sgflux.data.readers import READERS
from sgflux.errors import SgfluxError
from tests.helpers.rows import write_picture

EXTENDING = Path(__file__).parents[3] / "docs" / "extending.md"
WORDS = ("riding", "wearing", "next to")


def read_street(paths: Sequence[Path]) -> Annotations:
    """One JSON file a picture: its file, its objects with corners, and triples of their numbers."""
    pictures = []
    for path in paths:
        entry = json.loads(path.read_text(encoding="utf-8"))
        pictures.append(
            AnnotatedPicture(
                path=entry["file"],
                objects=[
                    AnnotatedObject(name=thing["name"], box=Box.from_corners(thing["corners"]))
                    for thing in entry["objects"]
                ],
                relationships=[tuple(triple) for triple in entry["relationships"]],
            )
        )
    return annotations_of(pictures, title="Street")


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of a source with twelve pictures, and the reader in the table."""
    monkeypatch.setitem(READERS, "street", read_street)
    files = []
    for number in range(12):
        write_picture(tmp_path / "photos" / f"{number}.png", size=(80, 60), seed=number)
        entry = {
            "file": f"{number}.png",
            "objects": [
                {"name": f"Man {number}", "corners": [0, 0, 40, 40]},
                {"name": f"horse {number}", "corners": [20, 10, 70, 50]},
            ],
            "relationships": [[0, WORDS[number % 3], 1]],
        }
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(entry))
    return list(map(str, files))


def test_the_page_about_extending_shows_this_reader() -> None:
    """Code of a page that nobody runs soon does not work any more."""
    assert inspect.getsource(read_street) in EXTENDING.read_text(encoding="utf-8")


def test_a_new_source_becomes_a_data_set_that_passes_the_check(
    street: list[str], tmp_path: Path
) -> None:
    out, photos = tmp_path / "out", str(tmp_path / "photos")
    chosen = ["--predicates", *WORDS, "--min-box-area", "16", "--mirror", "--tag", "street"]
    split = ["--train-per-class", "2", "--val-per-class", "1", "--test-per-class", "1"]
    source = ["--reader", "street", "--files", *street, "--images-dir", photos]
    assert main(["data", "vg", *source, "--output-dir", str(out), *chosen, *split]) == 0
    files = [str(out / f"street_{name}.jsonl") for name in ("train", "val", "test")]
    assert main(["data", "check", *files, "--images-dir", photos]) == 0
    rows = read_examples(files[0])
    assert len(rows) == 12, "two of each predicate, and their mirror images"
    assert {row.triple.predicate for row in rows} == {"riding", "wearing", "around/near"}
    row = next(row for row in rows if not row.is_mirrored)
    boxes = dict(zip(row.graph.objects, row.boxes or (), strict=True))
    assert boxes[row.triple.subject] == (0, 0, 40, 40)
    assert boxes[row.triple.object] == (20, 10, 50, 40), "corners became width and height"
    summary = json.loads((out / "street_summary.json").read_text())
    assert summary["dataset"] == "Street"
    assert (summary["images"], summary["relationships"]) == (12, 12)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reader", "lane", "--files", ".", "--images-dir", "."], "reader must be one of"),
        (["--reader", "street", "--images-dir", "b"], "--reader and --files belong together"),
        (["--reader", "street", "--files", "a"], "--reader needs --images-dir"),
        (["--reader", "street", "--files", "a", "--raw", "b"], "give either"),
    ],
)
def test_a_reader_without_all_that_it_needs_is_refused(
    street: list[str],
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", "vg", "--output-dir", str(tmp_path / "out"), *flags]) != 0
    assert message in capsys.readouterr().err


def test_annotations_that_contradict_themselves_name_the_picture() -> None:
    """Silent, a wrong index would relate the wrong objects, and a wrong split leak test data."""
    man = AnnotatedObject("man", Box(0, 0, 9, 9))
    with pytest.raises(SgfluxError, match=r"a\.png: .*its 1 objects"):
        AnnotatedPicture("a.png", [man], [(0, "riding", 1)])
    with pytest.raises(SgfluxError, match=r"a\.png: split must be one of"):
        AnnotatedPicture("a.png", [man], [], split="training")
    table = annotations_of(
        [AnnotatedPicture("a.png", [man], []), AnnotatedPicture("a.png", [], [], split="test")],
        title="two",
    )
    assert table.images.groups.tolist() == [0, 0], "one picture, whatever its entries"
    assert table.images.splits.tolist() == [-1, 2]
    assert len(table.relations) == 0
