"""Pictures, boxes and words are looked at before anything is encoded.

If one of these failed, a broken picture, missing box or unreadable word would stop a run after
hours of encoding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgflux.bases.flux1.check import check_model
from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.pictures import picture_size
from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names, names_in_context
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.preflight import data as preflight
from sgflux.preflight.data import check_names, check_pictures
from sgflux.settings.model_source import ModelSource


def row(picture: str, predicate: str = "on", **more: Any) -> str:
    triple = {"subject": "man", "predicate": predicate, "object": "box"}
    content = {"prompt": "a photo", "concepts": ["man"], "triple": triple}
    return json.dumps({**content, "meta": {"image_rel_path": picture}, **more})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg"):
        Image.effect_noise((40, 30), 60).convert("RGB").save(tmp_path / name)
    boxes = [[1, 1, 10, 10], [5, 5, 20, 20]]
    path = tmp_path / "train.jsonl"
    path.write_text(f"{row('a.png', boxes=boxes)}\n\n{row('b.jpg', boxes=boxes)}\n")
    return path


def look(path: Path, crop: Any = "auto") -> str:
    examples: list[SceneExample] = read_examples(path, open_vocabulary=True)
    return check_pictures(path, examples, images_dir=path.parent, crop=crop, height=16, width=16)


def test_whole_pictures(rows: Path) -> None:
    assert look(rows) == f"{rows}: 2 pictures decoded"
    assert look(rows, "none").startswith(
        f"{rows}: 2 pictures decoded; 2 of 2 pictures are squashed"
    )
    assert "all with the boxes that the crop 'union' needs" in look(rows, "union")


def test_a_missing_picture_is_named_with_its_line(rows: Path) -> None:
    (rows.parent / "b.jpg").unlink()
    with pytest.raises(SgfluxError, match=r"train\.jsonl:3: .*b\.jpg.*cannot be read"):
        look(rows)


@pytest.mark.parametrize("name", ["a.png", "b.jpg"])
@pytest.mark.parametrize("decoded", [0, 9])
def test_a_picture_that_is_cut_off(
    rows: Path, name: str, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only headers and endings are read."""
    monkeypatch.setattr(preflight, "DECODED", decoded)
    path = rows.parent / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SgfluxError, match=rf"train\.jsonl:\d: .*{name}"):
        look(rows)


def test_headers_are_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == (30, 40)


def test_boxes_that_are_missing_or_outside(rows: Path) -> None:
    rows.write_text(f"{row('a.png', boxes=[[0, 0, 9, 9]] * 2)}\n{row('b.jpg')}\n{row('a.png')}\n")
    with pytest.raises(
        SgfluxError,
        match=r"train\.jsonl:2: the row of b\.jpg has no boxes.*1 more row.*'center'",
    ):
        look(rows, "union")
    look(rows)
    rows.write_text(row("a.png", boxes=[[100, 100, 9, 9]] * 2) + "\n")
    with pytest.raises(SgfluxError, match=r"train\.jsonl:1: the box .* lies outside the picture"):
        look(rows, "union")


# --- words --------------------------------------------------------------------------------------


def check(names: list[str], **files: Any) -> str:
    unreadable = check_model(ModelSource(model_id="tiny")).unreadable
    assert unreadable is not None
    return check_names(names, unreadable=unreadable(names, 24), **files)


@pytest.mark.parametrize("predicate", ["w/", "w/o", "and/or", "/", "on/in", "around/near"])
def test_a_slash_is_a_part_of_a_word(predicate: str) -> None:
    """ "w/" was read as nothing, "and/or" as "or"; only the canonical name has two spellings."""
    said = "near" if predicate == "around/near" else predicate
    assert names_in_context("man", predicate, "box") == (
        f"⟦man⟧ {said} box",
        f"man ⟦{said}⟧ box",
        f"man {said} ⟦box⟧",
    )
    graph = SceneGraph(objects=("man", "box"), relationships=((0, predicate, 1),))
    names = graph_names([graph])
    assert check(names).startswith("6 names")


@pytest.mark.parametrize(
    ("predicate", "said"),
    [
        ("very " * 40 + "near", "tokens, the text encoder reads at most 32"),
        ("riding " * 21 + "near", "as far as 'box': it has no token there, or not within"),
    ],
)
def test_a_word_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, predicate: str, said: str
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{row('a.png')}\n\n{row('b.png', predicate)}\n")
    examples = read_examples(path, open_vocabulary=True)
    names = graph_names(example.graph for example in examples)
    with pytest.raises(SgfluxError, match=said) as caught:
        check(names, files=[path])
    assert str(caught.value).startswith(f"{path}:3: ")
