"""sg2im's HDF5 layout: read exactly, checked against its vocabulary, refused by name.

If one of these failed, a predicate or box of sg2im's files would be read from the wrong column,
or a foreign file be read as one of them.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.data.visual_genome.h5 import read_h5
from sgflux.data.visual_genome.vocabulary import read_vocabulary
from sgflux.errors import SgfluxError
from sgflux.models.cgip_vocabulary import PUBLISHED_FINGERPRINT, CGIPVocabulary
from tests.helpers.rows import VG_PHOTOS
from tests.helpers.visual_genome import H5Image, statements, write_h5, write_vocab

BOX = (0, 0, 40, 40)
RIDER = H5Image(
    "VG_100K/1.png",
    [("man", BOX), ("horse", (20, 10, 50, 40)), ("hat", (5, 0, 35, 35))],
    [(0, "riding", 1), (2, "on top of", 0), (0, "__in_image__", 2)],
)
DINNER = H5Image("VG_100K_2/2.png", [("table", BOX), ("dog", BOX)], [(1, "next to", 0)])
ALONE = H5Image("VG_100K_2/3.png", [("dog", BOX)], [])


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    return write_vocab(tmp_path / "vocab.json")


def test_one_file_is_read_as_it_is(tmp_path: Path, vocab: Path):
    table = read_h5([vocab, write_h5(tmp_path / "train.h5", [ALONE, RIDER, DINNER])])
    assert statements(table) == [
        ("man", "riding", "horse"),
        ("hat", "on top of", "man"),
        ("dog", "next to", "table"),
    ]
    assert table.images.paths == ["VG_100K_2/3.png", "VG_100K/1.png", "VG_100K_2/2.png"]
    assert table.relations.images.tolist() == [1, 1, 2]
    assert table.relations.places.tolist() == [0, 1, 0]
    assert table.relations.ids.tolist() == [1000, 1001, 2000]
    assert table.objects.ids[table.relations.subjects].tolist() == [100, 102, 201]
    assert table.objects.boxes[table.relations.subjects[1]].tolist() == [5, 0, 35, 35]
    assert table.images.splits.tolist() == [-1, -1, -1]
    assert +table.quirks == {"relationships with the predicate __in_image__, left out": 1}


def test_three_files_keep_their_splits_and_share_no_picture(tmp_path: Path, vocab: Path):
    files = [
        write_h5(tmp_path / f"{name}.h5", images)
        for name, images in (("train", [RIDER, DINNER]), ("val", [DINNER]), ("test", [ALONE]))
    ]
    table = read_h5([vocab, *files])
    assert table.images.splits.tolist() == [0, 0, 1, 2]
    assert table.relations.images.tolist() == [0, 0, 2]
    assert table.quirks["relationships of a picture that a later file has too, left out"] == 1
    with pytest.raises(SgfluxError, match="one file, or the three"):
        read_h5([vocab, *files[:2]])


def test_the_vocabularys_hash_is_of_its_words_in_their_order(tmp_path: Path, vocab: Path):
    first = read_vocabulary(vocab)
    content = json.loads(vocab.read_text())
    vocab.write_text(json.dumps(content, indent=3))
    assert read_vocabulary(vocab).sha256 == first.sha256
    del content["pred_name_to_idx"]
    content["pred_idx_to_name"].reverse()
    vocab.write_text(json.dumps(content))
    assert read_vocabulary(vocab).sha256 != first.sha256
    content["pred_name_to_idx"] = {"riding": 0}
    vocab.write_text(json.dumps(content))
    with pytest.raises(SgfluxError, match="'pred_idx_to_name' and 'pred_name_to_idx' contradict"):
        read_vocabulary(vocab)
    vocab.write_text("{}")
    with pytest.raises(SgfluxError, match=r"vocab\.json: 'object_idx_to_name' must be a list"):
        read_vocabulary(vocab)


@pytest.mark.parametrize("kind", ["object", "pred"])
def test_a_word_that_no_graph_can_have_is_refused_with_its_place(
    tmp_path: Path, vocab: Path, kind: str
):
    content = json.loads(vocab.read_text())
    words = content[f"{kind}_idx_to_name"]
    words[2] = "wo\x07rd"
    content[f"{kind}_name_to_idx"] = {word: i for i, word in enumerate(words)}
    vocab.write_text(json.dumps(content))
    said = rf"vocab\.json: {kind}_idx_to_name\[2\] must be on one line .*, got '.x07'"
    with pytest.raises(SgfluxError, match=said):
        read_h5([vocab, write_h5(tmp_path / "train.h5", [ALONE])])


def test_the_real_vocabulary():
    path = VG_PHOTOS.parent / "vg_vocab.json"
    if not path.exists():
        pytest.skip(f"the real vocabulary is not at {path}")
    words = read_vocabulary(path)
    assert (len(words.objects), len(words.predicates)) == (179, 46)
    assert words.predicates[1] == "on"
    # So that a summary can be compared with what an encoder was trained with.
    assert words.sha256 == PUBLISHED_FINGERPRINT == CGIPVocabulary.from_file(path).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_boxes": None}, r"'object_boxes' is missing"),
        ({"image_ids": np.zeros(3, np.int32)}, r"expected 1 axes of 3 images"),
        ({"object_boxes": np.zeros((2, 6, 2), np.int32)}, r"'object_boxes' has the shape"),
        ({"object_names": np.full((2, 6), 77, np.int32)}, r"row 0 has the index 77.*vocabulary"),
        ({"relationship_predicates": np.full((2, 6), 9, np.int32)}, r"has the index 9"),
        ({"relationship_subjects": np.full((2, 6), 5, np.int32)}, r"slot 5, which is empty"),
        ({"relationship_objects": np.full((2, 6), 8, np.int32)}, r"has the index 8"),
        ({"objects_per_image": np.full(2, 9, np.int32)}, r"row 0 is 9; there are 6 slots"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, vocab: Path, changes: dict[str, Any], message: str
):
    path = write_h5(tmp_path / "train.h5", [RIDER, DINNER], **changes)
    with pytest.raises(SgfluxError, match=rf"train\.h5: .*{message}|{message}"):
        read_h5([vocab, path])


def test_paths_stay_below_their_folder_and_files_are_hdf5(tmp_path: Path, vocab: Path):
    outside = H5Image("../../etc/passwd", RIDER.objects, RIDER.triples)
    with pytest.raises(SgfluxError, match=r"row 0 is '\.\./\.\./etc/passwd'"):
        read_h5([vocab, write_h5(tmp_path / "train.h5", [outside])])
    (tmp_path / "no.h5").write_text("no")
    for name in ("no.h5", "none.h5"):
        with pytest.raises(SgfluxError, match=rf"{name}: cannot be read as HDF5"):
            read_h5([vocab, tmp_path / name])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data):
    folder = tmp_path_factory.getbasetemp()
    whole, vocab = folder / "whole.h5", folder / "whole_vocab.json"
    if not whole.exists():
        write_vocab(vocab)
        write_h5(whole, [ALONE, RIDER, DINNER])
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.h5"
    path.write_bytes(bytes(content))
    text = str(path)
    try:
        table = read_h5([vocab, path])
    except SgfluxError as error:
        text = str(error)
    else:
        # What was read is at least consistent in itself.
        assert len(statements(table)) == len(table.relations)
        assert np.isfinite(table.objects.boxes).all()
    assert str(path) in text


def test_a_dataset_of_an_impossible_size_is_refused_before_it_is_allocated(
    tmp_path: Path, vocab: Path
):
    path = write_h5(tmp_path / "train.h5", [RIDER])
    with h5py.File(path, "r+") as file:
        del file["object_ids"]
        file.create_dataset("object_ids", shape=(1, 2**40), dtype="i4", chunks=(1, 1024))
    with pytest.raises(SgfluxError, match="'object_ids' claims 4,398,046,511,104 bytes"):
        read_h5([vocab, path])


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 2.0**60])
def test_indices_must_be_whole_numbers(tmp_path: Path, vocab: Path, value: float):
    path = write_h5(tmp_path / "train.h5", [RIDER])
    with h5py.File(path, "r+") as file:
        ids = file["object_ids"][()].astype(np.float64)
        ids[0, 0] = value
        del file["object_ids"]
        file["object_ids"] = ids
    with pytest.raises(SgfluxError, match="'object_ids' must be whole numbers"):
        read_h5([vocab, path])


def test_boxes_must_be_finite(tmp_path: Path, vocab: Path):
    path = write_h5(tmp_path / "train.h5", [RIDER])
    with h5py.File(path, "r+") as file:
        boxes = file["object_boxes"][()].astype(np.float64)
        boxes[0, 0, 0] = np.nan
        del file["object_boxes"]
        file["object_boxes"] = boxes
    with pytest.raises(SgfluxError, match="'object_boxes' has numbers that are not finite"):
        read_h5([vocab, path])


WORDS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
TABLES = ("object_idx_to_name", "object_name_to_idx", "pred_idx_to_name", "pred_name_to_idx")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from((*TABLES, "")), WORDS)
def test_any_vocabulary_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
):
    path = write_vocab(tmp_path_factory.getbasetemp() / "any_vocab.json")
    content = {**json.loads(path.read_text()), key: value} if key else value
    path.write_text(json.dumps(content))
    for read in (read_vocabulary, CGIPVocabulary.from_file):
        with contextlib.suppress(SgfluxError):
            read(path)
    if key.endswith("to_name"):
        lists = {**json.loads(write_vocab(path).read_text()), key: ["__image__", []]}
        path.write_text(json.dumps(lists))
        for read in (read_vocabulary, CGIPVocabulary.from_file):
            with pytest.raises(SgfluxError, match="must be a list of words"):
                read(path)
