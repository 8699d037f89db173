"""From a release to a data set: every quirk dropped and counted, sets that can be trusted.

If one of these failed, a data set would contain statements that its source does not make, or its
summary would count something else than its rows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sgflux.cli import main
from sgflux.data.annotations.sheet import _OBJECT, _SUBJECT, TILE, _tile
from sgflux.data.annotations.table import SPLITS
from sgflux.data.check import check_dataset
from sgflux.data.examples import SceneExample, read_examples
from tests.helpers.rows import write_picture
from tests.helpers.visual_genome import SIZE, H5Image, Release, write_h5, write_vocab

WORDS = ("riding", "wearing", "left of", "near")
FEW = ["--train-per-class", "2", "--val-per-class", "1", "--test-per-class", "1"]
CHOICE = ["--predicates", *WORDS, "--min-box-area", "16"]


def add_plenty(release: Release, each: int = 6) -> None:
    """``each`` images of every predicate, with names that differ."""
    for number in range(each):
        for word in ("riding", "wears ", "to the LEFT of", "next to"):
            release.simple(f"man{number}, {word}, horse{number}")


@pytest.fixture
def release(tmp_path: Path) -> Release:
    root = tmp_path / "vg"
    root.mkdir()
    return Release(root)


def run(release: Release, out: Path, *more: str, status: int = 0) -> dict[str, Any]:
    command = ["data", "vg", "--raw", str(release.write()), "--output-dir", str(out), *CHOICE]
    assert main([*command, *more]) == status
    path = out / "vg_quickwin_summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def rows_of(out: Path) -> dict[str, list[SceneExample]]:
    return {split: read_examples(out / f"vg_quickwin_{split}.jsonl") for split in SPLITS}


def dropped(summary: dict[str, Any]) -> dict[str, int]:
    return {entry["reason"]: entry["dropped"] for entry in summary["filters"] if entry["dropped"]}


def test_a_release_becomes_three_balanced_disjoint_sets_that_pass_the_check(release, tmp_path):
    add_plenty(release)
    out = tmp_path / "out"
    summary = run(release, out, *FEW)
    rows = rows_of(out)
    assert {split: len(rows[split]) for split in SPLITS} == {"train": 8, "val": 4, "test": 4}
    pictures = [{row.image_rel_path for row in rows[split]} for split in SPLITS]
    assert not pictures[0] & pictures[1]
    assert not pictures[2] & (pictures[0] | pictures[1])
    for split in SPLITS:
        predicates = [row.triple.predicate for row in rows[split]]
        expected = ["around/near", "left of", "riding", "wearing"]
        assert sorted(set(predicates)) == expected
        assert {predicates.count(name) for name in expected} == {len(predicates) // 4}
        path = out / f"vg_quickwin_{split}.jsonl"
        report = check_dataset(path, images_dir=release.root)
        assert report.problems == ()
        assert summary["splits"][split]["rows"] == len(predicates)
    (row,) = [row for row in rows["val"] if row.triple.predicate == "around/near"]
    assert row.meta["predicate_raw"] == "next to"
    assert row.prompt == f"a photo of {row.triple.subject} near {row.triple.object}"
    assert len(row.boxes or ()) == len(row.graph.objects) == 2
    assert (out / "vg_quickwin_examples.jpg").stat().st_size > 1000
    assert summary["vocabulary"]["predicates"] == ["around/near", "left of", "riding", "wearing"]
    assert summary["command"][:3] == ["sgflux", "data", "vg"]
    assert sum(summary["found_by_predicate"].values()) == 24


def test_every_quirk_is_dropped_and_counted(release, tmp_path, capsys):
    add_plenty(release)
    man, horse = release.thing("man"), release.thing("horse", (20, 10, 50, 40))
    release.image((man, "riding", man))  # of itself
    release.image((man, "riding", horse), picture=False)  # 1592, 1722, ...
    release.image((release.thing("man", (90, 0, 20, 20)), "riding", horse))  # outside
    release.image((release.thing("man", (0, 0, 3, 3)), "riding", horse))  # small
    release.image((man, "riding", release.thing("man", (20, 10, 50, 40))))  # one name
    release.image((man, "riding", release.thing("", (20, 10, 50, 40))))  # no name
    again = release.thing("horse", (21, 10, 50, 40))
    release.image((man, "riding", horse), (man, "riding", again))  # said twice
    negative = release.thing("man", (-5, -5, 30, 30))
    release.image((negative, "riding", horse))  # cut at the border, kept
    release.image((man, "painted by", horse))  # an unknown word
    summary = run(release, tmp_path / "out", *FEW)
    counts = list(dropped(summary).items())
    words = (
        "file is missing",
        "no name",
        "to itself",
        "same name",
        "outside of the picture",
        "square pixels",
        "stated of the picture before",
    )
    for reason in words:
        assert sum(n for name, n in counts if reason in name) == 1, (reason, counts)
    assert summary["quirks"]["boxes that leave the picture, cut at its border"] == 2
    assert summary["other_predicates"] == {"painted by": 1}
    assert "dropped 1: it relates an object to itself" in capsys.readouterr().out


def test_what_the_cgip_encoder_lacks_is_printed_and_counted(release, tmp_path, capsys):
    add_plenty(release)
    out = tmp_path / "out"
    command = ["data", "vg", "--raw", str(release.write()), "--output-dir", str(out), *FEW]
    command += ["--min-box-area", "16", "--graph-encoder", "cgip", "--allow-imbalance"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "left out, since the cgip encoder has no such predicate: left of 6" in printed
    summary = json.loads((out / "vg_quickwin_summary.json").read_text())
    assert len(summary["vocabulary"]["predicates"]) == 16
    assert summary["other_predicates"] == {"left of": 6}


def test_every_filter_says_what_was_there_before_and_after(release, tmp_path):
    add_plenty(release)
    release.simple("man, riding, man")
    summary = run(release, tmp_path / "out", *FEW)
    left = summary["found_by_predicate"]
    for entry in summary["filters"]:
        after = {name: left[name] - entry["dropped_by_predicate"][name] for name in left}
        assert entry["left_by_predicate"] == after, entry["reason"]
        left = after
    assert left["riding"] == summary["found_by_predicate"]["riding"] - 1


def test_rows_carry_the_attributes_of_their_objects(release, tmp_path):
    add_plenty(release)
    content = [
        {
            "image_id": entry["image_id"],
            "attributes": [
                {"object_id": t["object_id"], "names": t["names"], "attributes": ["Tall "]}
                for t in entry["objects"][:1]
            ],
        }
        for entry in release.objects
    ]
    (release.root / "attributes.json").write_text(json.dumps(content))
    run(release, tmp_path / "out", *FEW)
    for rows in rows_of(tmp_path / "out").values():
        for row in rows:
            subject = row.graph.objects.index(row.triple.subject)
            assert row.meta["attributes"][subject] == ["tall"]
            assert row.meta["attributes"][1 - subject] == []


def test_the_contact_sheet_draws_subject_and_object_where_they_are(release, tmp_path):
    release.simple("man, riding, horse", size=TILE)
    boxes = [(40, 60, 100, 80), (180, 100, 90, 100)]
    for thing, box in zip(release.objects[0]["objects"], boxes, strict=True):
        thing.update(dict(zip("xywh", box, strict=True)))
    out = tmp_path / "out"
    command = ["data", "vg", "--raw", str(release.write()), "--output-dir", str(out)]
    command += ["--predicates", "riding", "--train-total", "1", "--val-total", "0"]
    assert main([*command, "--test-total", "0"]) == 0
    (row,) = read_examples(out / "vg_quickwin_train.jsonl")
    tile = _tile(row, release.root)
    assert tile.size == TILE
    for (x, y, w, h), color in zip(boxes, (_SUBJECT, _OBJECT), strict=True):
        for corner in ((x, y + h), (x + w, y + h), (x + w, y + h // 2), (x, y + h // 2)):
            assert tile.getpixel(corner) == color


def test_broken_pictures_are_replaced_by_others_and_named(release, tmp_path):
    for number in range(6):
        release.simple(f"man{number}, riding, horse{number}")
    broken = release.root / release.images[0]["url"].split("rak248/")[1]
    broken.write_bytes(broken.read_bytes()[:60])
    other = release.root / release.images[1]["url"].split("rak248/")[1]
    write_picture(other, size=(SIZE[0] + 1, SIZE[1]))
    more = ["--train-per-class", "2", "--val-per-class", "1", "--test-per-class", "1"]
    out = tmp_path / "out"
    command = ["data", "vg", "--raw", str(release.write()), "--output-dir", str(out)]
    assert main([*command, "--predicates", "riding", "--min-box-area", "0", *more]) == 0
    used = {row.image_rel_path for rows in rows_of(out).values() for row in rows}
    assert len(used) == 4
    assert not {f"{p.parent.name}/{p.name}" for p in (broken, other)} & used


def test_a_shortage_stops_unless_it_is_allowed(release, tmp_path, capsys):
    add_plenty(release, each=3)
    assert run(release, tmp_path / "out", "--train-per-class", "5", status=2) == {}
    message = " ".join(capsys.readouterr().err.split())
    assert "4 predicates have fewer fit examples than asked for" in message
    assert "--allow-imbalance" in message
    summary = run(
        release, tmp_path / "out", "--train-total", "20", "--val-total", "0", "--allow-imbalance"
    )
    assert {entry["split"] for entry in summary["shortages"]} >= {"train"}
    assert "val" not in summary["splits"]


def test_the_same_seed_gives_the_same_files_and_another_one_others(release, tmp_path):
    add_plenty(release)
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run(release, tmp_path / name, *FEW, "--seed", seed)

    def content(name: str) -> list[bytes]:
        return [(tmp_path / name / f"vg_quickwin_{split}.jsonl").read_bytes() for split in SPLITS]

    assert content("a") == content("b") != content("c")


def test_whole_graphs_mirror_images_and_held_out_combinations(release, tmp_path):
    for number in range(12):
        man, horse, hat = (release.thing(f"{n}{number}") for n in ("man", "horse", "hat"))
        words = ("left of", "riding")
        release.image((man, words[number % 2], horse), (man, "wearing", hat), (hat, "near", horse))
    out = tmp_path / "out"
    more = ["--train-per-class", "1", "--val-per-class", "1", "--test-per-class", "1"]
    run(release, out, *more, "--graphs", "--predicates", "left of", "right of", "wearing", "near",
        "--mirror", "--allow-imbalance")  # fmt: skip
    rows = rows_of(out)
    assert all(len(row.graph.relationships) >= 2 for row in rows["train"])
    turned = [row for row in rows["train"] if row.is_mirrored]
    assert len(turned) == len(rows["train"]) / 2
    for row in turned:
        (original,) = [
            other
            for other in rows["train"]
            if other.image_rel_path == row.image_rel_path and not other.is_mirrored
        ]
        if original.triple.predicate == "left of":
            assert row.triple.predicate == "right of"
            assert "right of" in row.prompt
        assert [box[0] for box in row.boxes or ()] == [
            SIZE[0] - box[0] - box[2] for box in original.boxes or ()
        ]

    held = tmp_path / "held"
    summary = run(release, held, *more, "--hold-out-combinations", "2", "--allow-imbalance")
    combinations = {tuple(entry) for entry in summary["held_out_combinations"]}
    assert len(combinations) == 2
    for split in ("train", "val"):
        for row in rows_of(held)[split]:
            triple = row.triple
            assert (triple.subject, triple.predicate, triple.object) not in combinations


def test_h5_files_keep_their_splits_and_one_file_is_split(tmp_path):
    things = [("man", (0, 0, 40, 40)), ("horse", (20, 10, 50, 40)), ("__image__", (0, 0, 80, 60))]

    def images(start: int, count: int) -> list[H5Image]:
        return [
            H5Image(
                path=f"VG_100K/{number}.png",
                objects=things,
                triples=[(0, word, 1), (0, "__in_image__", 2)],
            )
            for number, word in enumerate(["riding", "on top of"] * count, start=start)
        ]

    vocab = write_vocab(tmp_path / "vocab.json")
    for number in range(60):
        write_picture(tmp_path / f"VG_100K/{number}.png", size=SIZE, seed=number)
    files = [
        write_h5(tmp_path / f"{split}.h5", images(start, 5))
        for split, start in zip(SPLITS, (0, 20, 40), strict=True)
    ]
    common = ["--vocab-path", str(vocab), "--images-dir", str(tmp_path), *FEW]
    common += ["--predicates", "riding", "on"]
    out = tmp_path / "three"
    assert main(["data", "vg", "--h5", *map(str, files), "--output-dir", str(out), *common]) == 0
    for split, start in zip(SPLITS, (0, 20, 40), strict=True):
        for row in rows_of(out)[split]:
            number = int(Path(row.image_rel_path).stem)
            assert start <= number < start + 10
            assert row.meta["h5_split"] == split
    one = tmp_path / "one"
    assert main(["data", "vg", "--h5", str(files[0]), "--output-dir", str(one), *common]) == 0
    rows = rows_of(one)
    assert [len(rows[split]) for split in SPLITS] == [4, 2, 2]
    assert len({row.image_rel_path for split in SPLITS for row in rows[split]}) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --raw DIR or --h5"),
        (["--h5", "a.h5"], "--h5 and --vocab-path belong together"),
        (["--raw", "none"], "none: cannot be read: No such file"),
        (["--raw", "x", "--graph-encoder", "cgip", "--predicates", "on"], "both choose predicates"),
        (["--raw", "x", "--train-per-class", "1", "--train-total", "1"], "give one of them"),
    ],
)
def test_bad_flags_are_one_clear_error(arguments, message, tmp_path, capsys):
    assert main(["data", "vg", "--output-dir", str(tmp_path / "out"), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_bad_values_are_one_clear_error(release, tmp_path, capsys):
    add_plenty(release, each=4)
    out = tmp_path / "out"
    for more, message in (
        (["--tag", "a/b"], "tag must be the beginning of a file's name"),
        (["--prompt-template", "{subject}"], "prompt_template must have"),
        (["--images-dir", str(tmp_path / "none")], "none: cannot be read: No such file"),
        (["--predicates", "flying over"], "none of the 16 relationships has one of"),
        (["--hold-out-combinations", "500"], "rare enough"),
    ):
        run(release, out, *FEW, *more, status=2)
        assert message in " ".join(capsys.readouterr().err.split()), more
    run(release, out, *FEW)
    run(release, out, *FEW, status=2)
    assert "is there already" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("linked", ["folder", "files", "root"])
def test_linked_pictures_are_pictures(release, tmp_path, linked):
    add_plenty(release)
    plain = run(release, tmp_path / "plain", *FEW)
    blobs = tmp_path / "elsewhere"
    blobs.mkdir()
    for folder in list(release.root.glob("VG_*")):
        folder.rename(blobs / folder.name)
        if linked == "folder":
            folder.symlink_to(blobs / folder.name)
        elif linked == "files":
            folder.mkdir()
            for path in (blobs / folder.name).iterdir():
                (folder / path.name).symlink_to(path)
    more = []
    if linked == "root":
        (tmp_path / "link").symlink_to(blobs)
        more = ["--images-dir", str(tmp_path / "link")]
    summary = run(release, tmp_path / "out", *FEW, *more)
    assert summary["splits"] == plain["splits"]
    assert summary["filters"] == plain["filters"]


@pytest.mark.parametrize("place", ["VG_100K_2", "", "images"])
def test_all_pictures_may_be_in_one_folder(release, tmp_path, place):
    add_plenty(release)
    target = release.root / place
    target.mkdir(exist_ok=True)
    for path in list(release.root.glob("VG_*/*.png")):
        path.rename(target / path.name)
    summary = run(release, tmp_path / "out", *FEW)
    assert dropped(summary) == {}
    assert summary["quirks"]["pictures found in another folder than their url's"] == 24
    for row in rows_of(tmp_path / "out")["train"]:
        assert (release.root / row.image_rel_path).parent == target


def test_what_is_dropped_is_counted_under_its_true_reason(release, tmp_path, capsys):
    add_plenty(release, each=2)
    pictures = sorted(release.root.glob("VG_*/*.png"))
    pictures[0].unlink()
    pictures[0].symlink_to(tmp_path / "gone.png")
    pictures[1].unlink()
    os.mkfifo(pictures[1])
    pictures[2].write_bytes(b"no picture")
    summary = run(release, tmp_path / "out", "--train-per-class", "9", "--allow-imbalance")
    reasons = dropped(summary)
    assert reasons["the picture's file is missing"] == 1
    assert reasons["the picture's file cannot be read"] == 1
    assert reasons["the picture cannot be decoded"] == 1
    assert any("named pipe" in why for why in summary["broken_pictures"].values())
    # Without a summary, the error says as much.
    capsys.readouterr()
    assert run(release, tmp_path / "none", "--train-per-class", "9", status=2) == {}
    said = capsys.readouterr().err
    assert "Nothing is written" in said
    for reason in ("1: the picture's file is missing", "1: the picture's file cannot be read"):
        assert reason in said
    assert "for example VG_100K" in said
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").glob("*.json*"))
