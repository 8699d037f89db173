"""Files of known pictures, in the layouts of their sources.

If one of these failed, a judge would be measured on statements that their source does not make.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sgflux.data.boxes import Box
from sgflux.data.examples import write_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation.known.pictures import KnownSet, Source
from sgflux.evaluation.known.reading import read_known
from tests.helpers.graph_examples import example
from tests.helpers.rows import SHARED_DATA

FORMATS = SHARED_DATA / "formats"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), "white").save(path)


def lines(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(known: KnownSet) -> list[tuple[str, bool, str]]:
    return [
        (str(one.triple), one.is_true, str(one.source))
        for shown in known.pictures
        for one in shown.statements
    ]


def test_photographs_with_boxes_and_statements(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.jpg")
    row = {
        "file": "pictures/a.jpg",
        "width": 64,
        "height": 48,
        "objects": [
            {"name": "cat", "box": [0, 1, 10, 20]},
            {"name": "dining table", "box": [20, 1, 10, 20]},
        ],
        "relations": {
            "geometric": [{"subject": 0, "predicate": "left of", "object": 1}],
            "vsr": [
                {
                    "caption": "The cat is beneath the dining table.",
                    "true": False,
                    "relation": "beneath",
                    "subject_name": "cat",
                    "object_name": "dining table",
                }
            ],
            "vcoco": [
                {"subject": 0, "predicate": "sit", "role": "instr", "object": 1},
                {"subject": 0, "predicate": "sit", "role": None, "object": None},
            ],
            "pairs": [{"true": "A cat.", "false": "A dog."}],
        },
    }
    known = read_known([lines(tmp_path / "annotations.jsonl", row)], images_dir=None)
    assert said(known) == [
        ("cat, left of, dining table", True, "geometric"),
        ("cat, beneath, dining table", False, "human"),
        ("cat, sitting on, dining table", True, "stated"),
    ]
    assert known.pictures[0].objects is not None
    assert known.pictures[0].objects[1] == ("dining table", Box(20, 1, 10, 20))
    assert known.left_out == {"verbs without a visible object": 1, "pairs of captions": 1}


def test_captions_of_vsr_with_and_without_names(tmp_path: Path) -> None:
    """The two files of the release differ in that."""
    picture(tmp_path / "1.jpg")
    picture(tmp_path / "train2017" / "2.jpg")
    base = {"label": 1, "relation": "on"}
    link = "http://images.cocodataset.org/train2017/2.jpg"
    named = {"image": "1.jpg", "caption": "?", "subj": "dog", "obj": "surfboard", **base}
    unnamed = {"image": "2.jpg", "image_link": link, "caption": "The dog is on the pizza.", **base}
    has = {**unnamed, "caption": "The bus has as a part the dog.", "relation": "has as a part"}
    known = read_known([lines(tmp_path / "d.jsonl", named, unnamed, has)], images_dir=tmp_path)
    assert said(known) == [
        ("dog, on, surfboard", True, "human"),
        ("dog, on, pizza", True, "human"),
        ("bus, has as a part, dog", True, "human"),
    ]
    wrong = {**unnamed, "caption": "A dog there."}
    with pytest.raises(SgfluxError, match=r"d\.jsonl:1: the caption 'A dog there\.' does not say"):
        read_known([lines(tmp_path / "d.jsonl", wrong)], images_dir=tmp_path)


def test_verbs_of_vcoco_with_the_objects_of_coco(tmp_path: Path) -> None:
    """Two people; the first rides the horse, and whom the second looks at is not annotated."""
    picture(tmp_path / "7.jpg")
    annotations = [
        {"id": i, "image_id": 7, "category_id": c, "bbox": [i, 0, 10, 10]}
        for i, c in ((11, 1), (12, 1), (13, 19))
    ]
    coco = tmp_path / "instances.json"
    coco.write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "7.jpg"}],
                "annotations": annotations,
                "categories": [{"id": 1, "name": "person"}, {"id": 19, "name": "horse"}],
            }
        )
    )
    people = {"image_id": [7, 7], "ann_id": [11, 12], "include": []}
    actions = tmp_path / "vcoco.json"
    actions.write_text(
        json.dumps(
            [
                {
                    **people,
                    "action_name": "ride",
                    "role_name": ["agent", "instr"],
                    "label": [1, 0],
                    "role_object_id": [11, 12, 13, 0],
                },
                {
                    **people,
                    "action_name": "look",
                    "role_name": ["agent", "obj"],
                    "label": [0, 1],
                    "role_object_id": [11, 12, 0, 99],
                },
            ]
        )
    )
    known = read_known([actions, coco], images_dir=None)
    assert said(known) == [("person, ride, horse", True, "stated")]
    assert known.left_out == {"relations of objects that the instances lack": 1}
    assert known.pictures[0].objects is not None
    assert known.pictures[0].objects[2] == ("horse", Box(13, 0, 10, 10))
    caption = {"image": "7.jpg", "caption": "?", "relation": "on", "label": 1}
    vsr = lines(tmp_path / "vsr.jsonl", {**caption, "subj": "person", "obj": "horse"})
    (seen,) = read_known([vsr, coco], images_dir=None).pictures
    assert seen.objects == known.pictures[0].objects, "statements of VSR get COCO's boxes, too"
    with pytest.raises(SgfluxError, match=r"is a file of V-COCO.*name COCO's instances_"):
        read_known([actions], images_dir=None)
    with pytest.raises(SgfluxError, match=r"holds no pictures"):
        read_known([coco], images_dir=None)


def test_rows_of_our_own_and_what_their_words_leave_open(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "0000.png")
    twins = example("dog, left of, cat; dog#2, right of, cat; cat, on, box")
    write_examples(tmp_path / "test.jsonl", [twins])
    known = read_known([tmp_path / "test.jsonl"], images_dir=None)
    assert said(known) == [("cat, on, box", True, "stated")]
    assert known.left_out == {"statements about objects of equal names": 2}
    assert known.pictures[0].objects is None


def test_missing_pictures_are_counted_and_a_wrong_folder_is_refused(tmp_path: Path) -> None:
    base = {"label": 1, "relation": "on", "caption": "The dog is on the pizza."}
    path = lines(tmp_path / "d.jsonl", {"image": "1.jpg", **base}, {"image": "2.jpg", **base})
    with pytest.raises(SgfluxError, match=r"none of its 2 pictures is in .*--images-dir"):
        read_known([path], images_dir=None)
    picture(tmp_path / "1.jpg")
    known = read_known([path], images_dir=None)
    assert known.left_out == {"pictures that are not in their folder": 1}


def test_a_name_that_no_graph_can_have_is_refused_with_its_place(tmp_path: Path) -> None:
    """A control character, in each of the places that names are read from."""
    good = {"image": "1.jpg", "caption": "?", "label": 1, "relation": "on", "obj": "pizza"}
    vsr = lines(tmp_path / "vsr.jsonl", {**good, "subj": "dog"}, {**good, "subj": "d\x07og"})
    with pytest.raises(SgfluxError, match=r"vsr\.jsonl:2: the triple's subject must be on one"):
        read_known([vsr], images_dir=tmp_path)
    things = [{"name": name, "box": [0, 0, 9, 9]} for name in ("cat", "t\x07able")]
    stated = {"geometric": [{"subject": 0, "predicate": "on", "object": 1}]}
    empty: dict[str, Any] = {"file": "1.jpg", "objects": [], "relations": {}}
    photos = lines(tmp_path / "p.jsonl", empty, {**empty, "objects": things, "relations": stated})
    with pytest.raises(SgfluxError, match=r"p\.jsonl:2: the triple's object must be on one line"):
        read_known([photos], images_dir=tmp_path)

    def coco(name: str) -> Path:
        box = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9]}
        content = {
            "images": [{"id": 7, "file_name": "7.jpg"}],
            "annotations": [{"id": 1, **box}, {"id": 2, **box}],
            "categories": [{"id": 1, "name": name}],
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return tmp_path / "instances.json"

    action = {
        "action_name": "ri\x07de",
        "role_name": ["agent", "instr"],
        "image_id": [7],
        "label": [1],
        "role_object_id": [1, 2],
    }
    vcoco = tmp_path / "vcoco.json"
    vcoco.write_text(json.dumps([action]))
    with pytest.raises(SgfluxError, match=r"instances\.json: the name of category 1 must be on"):
        read_known([vcoco, coco("per\x07son")], images_dir=tmp_path)
    said = r"vcoco\.json: the action 'ri\\x07de' in image 7: the triple's predicate must be on"
    with pytest.raises(SgfluxError, match=said):
        read_known([vcoco, coco("person")], images_dir=tmp_path)


@pytest.mark.parametrize(("place", "said"), [(1, "names object 1, of 1 objects"), (-1, "subject")])
@pytest.mark.parametrize(
    ("kind", "more"),
    [("geometric", {"predicate": "on"}), ("vcoco", {"predicate": "sit", "role": "instr"})],
)
def test_a_photograph_without_an_object_that_a_relation_names_is_refused(
    tmp_path: Path, kind: str, more: dict[str, str], place: int, said: str
) -> None:
    """From the end of the list, a negative place would be another object's."""
    row = {
        "file": "1.jpg",
        "objects": [{"name": "cat", "box": [0, 0, 9, 9]}],
        "relations": {kind: [{"subject": place, "object": 0, **more}]},
    }
    with pytest.raises(SgfluxError, match=rf"p\.jsonl:1: .*{said}"):
        read_known([lines(tmp_path / "p.jsonl", row)], images_dir=tmp_path)


@pytest.mark.parametrize("change", [{"category_id": 2}, {"image_id": 8}])
def test_an_annotation_of_coco_without_its_category_or_image_is_refused(
    tmp_path: Path, change: dict[str, int]
) -> None:
    content = {
        "images": [{"id": 7, "file_name": "7.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], **change}],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SgfluxError, match=r"instances\.json: annotation 1 is of category \d in"):
        read_known([path], images_dir=None)


@pytest.mark.parametrize("content", ['{"a": 1}', "3", "nothing", '"text"'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(content)
    with pytest.raises(SgfluxError, match=r"d\.jsonl: is no file of known pictures; expected"):
        read_known([path], images_dir=None)


@pytest.mark.skipif(not FORMATS.exists(), reason=f"the original files are not at {FORMATS}")
def test_original_files(tmp_path: Path) -> None:
    """Lines as they were published, with a white picture in each place."""
    for name in ("dev.jsonl", "all_vsr_validated_data.jsonl"):
        rows = [json.loads(line) for line in (FORMATS / "vsr" / name).read_text().splitlines()]
        for row in rows:
            picture(tmp_path / row["image"])
        known = read_known([FORMATS / "vsr" / name], images_dir=tmp_path)
        assert {source for _, _, source in said(known)} == {Source.HUMAN}
        assert sum(true for _, true, _ in said(known)) == sum(row["label"] for row in rows)
        assert {t.split(", ")[1] for t, _, _ in said(known)} == {row["relation"] for row in rows}
    instances = FORMATS / "coco_instances" / "instances_train2017.json"
    with pytest.raises(SgfluxError, match="none of its relations is about objects"):
        read_known([FORMATS / "vcoco" / "vcoco_train.json", instances], images_dir=tmp_path)
