"""The raw release: every quirk is handled and counted, every malformed file is named.

If one of these failed, statements would be dropped or read wrongly without a count, or a
malformed file would end in a traceback.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.data.annotations.table import Annotations
from sgflux.data.visual_genome.raw import read_raw
from sgflux.data.visual_genome.raw_files import read_aliases, read_attributes
from sgflux.errors import SgfluxError
from tests.helpers.visual_genome import Release, statements


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


def box_of(table: Annotations, row: int, end: str = "subjects") -> list[float]:
    return table.objects.boxes[getattr(table.relations, end)[row]].tolist()


def test_paths_come_from_the_url_and_not_from_the_id(release: Release):
    first = release.simple("man, riding, horse", path="VG_100K_2/7.png")
    release.simple("dog, on, table")
    table = read_raw([release.write()])
    assert table.images.paths[0] == "VG_100K_2/7.png"
    assert table.images.ids[0] == first
    assert table.images.sizes.tolist() == [[80, 60]] * 2
    assert statements(table) == [("man", "riding", "horse"), ("dog", "on", "table")]
    assert not +table.quirks


def test_words_are_cleaned_and_the_raw_predicate_is_kept(release: Release):
    release.simple("Tall  MAN, RIDING  , horse ")
    release.relationships[0]["relationships"][0]["predicate"] = "RIDING "
    table = read_raw([release.write()])
    assert statements(table) == [("tall man", "RIDING ", "horse")]
    assert table.quirks["predicates with capitals or superfluous blanks, read without"] == 1


def test_aliases_of_objects_and_relationships(release: Release):
    release.simple("guy, rides, pony")
    (release.root / "object_alias.txt").write_text("man,guy,gentleman\nhorse,pony,\n\nboy,guy\n")
    (release.root / "relationship_alias.txt").write_text("riding,rides,rides on\n")
    table = read_raw([release.write()])
    assert statements(table) == [("man", "rides", "horse")]
    assert table.relation_aliases == {"rides": "riding", "rides on": "riding"}
    (release.root / "bad.txt").write_text("a,b\n,,\n")
    with pytest.raises(SgfluxError, match=r"bad\.txt:2"):
        read_aliases(release.root / "bad.txt")


def test_objects_json_counts_where_the_two_files_differ(release: Release):
    thing, horse = release.thing("man"), release.thing("horse")
    release.image((thing, "riding", horse))
    inline = release.relationships[0]["relationships"][0]["subject"]
    inline.update(x=5, name="person")
    table = read_raw([release.write()])
    assert statements(table) == [("man", "riding", "horse")]
    assert box_of(table, 0) == [0, 0, 40, 40]
    (name,) = [name for name in +table.quirks if "another box" in name]
    assert table.quirks[name] == 1


def test_an_object_merged_into_another_one_is_that_one(release: Release):
    man, other = release.thing("man"), release.thing("man", (1, 0, 40, 40))
    horse, hat = release.thing("horse"), release.thing("hat")
    release.image((man, "riding", horse), (other, "wearing", hat))
    release.objects[0]["objects"] = [
        {**man, "merged_object_ids": [other["object_id"]]},
        horse,
        hat,
    ]
    table = read_raw([release.write()])
    first, second = table.relations.subjects.tolist()
    assert first == second
    (name,) = [name for name in +table.quirks if "merged" in name]
    assert table.quirks[name] == 1


def test_an_object_that_only_relationships_json_has(release: Release):
    man, horse = release.thing("man"), release.thing("horse")
    release.image((man, "riding", horse), (man, "near", horse), listed=False)
    release.objects.append({"image_id": 1, "objects": []})
    # The second mention of one object has another box: the first one counts.
    release.relationships[0]["relationships"][1]["subject"]["x"] = 9
    table = read_raw([release.write()])
    assert statements(table) == [("man", "riding", "horse"), ("man", "near", "horse")]
    assert table.relations.subjects[0] == table.relations.subjects[1]
    assert box_of(table, 1) == [0, 0, 40, 40]
    assert sum(count for name, count in table.quirks.items() if "objects.json lacks" in name) == 4
    assert sum(count for name, count in table.quirks.items() if "several boxes" in name) == 1
    assert table.quirks["entries of objects.json about an unknown image, left out"] == 1


def test_a_name_missing_in_objects_json_is_taken_from_the_relationship(release: Release):
    release.simple("man, riding, horse")
    release.objects[0]["objects"][0] = {**release.objects[0]["objects"][0], "names": []}
    assert statements(read_raw([release.write()])) == [("man", "riding", "horse")]


def test_images_of_one_picture_are_one_group(release: Release):
    release.simple("man, on, horse", coco_id=5)
    release.simple("man, on, table", flickr_id=7)
    release.simple("dog, on, table", coco_id=5, flickr_id=8)
    release.simple("hat, on, table", flickr_id=8)
    release.simple("hat, on, dog", path="VG_100K/1.png")
    release.simple("hat, on, man", path="VG_100K/1.png")
    table = read_raw([release.write()])
    assert table.images.groups.tolist() == [0, 1, 0, 0, 4, 4]


def test_pictures_that_a_third_image_joins_are_one_group(release: Release):
    release.simple("man, on, horse", coco_id=5)
    release.simple("man, on, table", flickr_id=9)
    release.simple("hat, on, table", flickr_id=7)
    release.simple("dog, on, table", coco_id=5, flickr_id=9)
    release.simple("hat, on, dog", coco_id=6, flickr_id=7)
    release.simple("dog, on, dog", coco_id=6)
    release.simple("man, on, dog", coco_id=8)
    release.simple("man, on, man", coco_id=6, flickr_id=9)
    table = read_raw([release.write()])
    assert table.images.groups.tolist() == [0, 0, 0, 0, 0, 0, 6, 0]


def test_unknown_and_repeated_images_are_counted(release: Release):
    release.simple("man, on, horse")
    release.images.append(dict(release.images[0]))
    release.relationships.append({**release.relationships[0], "image_id": 3})
    table = read_raw([release.write()])
    assert len(table.relations) == len(table.images) == 1
    assert table.quirks["images listed twice, read once"] == 1
    assert table.quirks["relationships of an unknown image, left out"] == 1


def test_attributes_are_read_for_the_chosen_images_only(release: Release):
    ids = [release.simple("man, on, horse") for _ in range(2)]
    content = [
        {"image_id": i, "attributes": [{"object_id": i, "attributes": ["Tall ", "tall", ""]}]}
        for i in ids
    ]
    (release.root / "attributes.json").write_text(json.dumps(content))
    assert read_attributes(release.root, ids[:1]) == {ids[0]: ["tall"]}
    assert read_attributes(release.root / "none", ids) == {}


def test_a_word_that_no_graph_can_have_is_refused_with_its_place(release: Release):
    """A control character is searched for in a file of 700 MB by the ids of image and object."""
    release.simple("dog, on, table")
    man, horse = release.thing("man"), release.thing("horse")
    image = release.image((man, "riding", horse), (man, "near", horse))
    release.objects[1]["objects"].append(release.thing("cl\x07oud"))
    assert len(read_raw([release.write()]).relations) == 3, "nothing is said of the cloud"
    stated = release.relationships[1]["relationships"][1]

    def refused(message: str) -> None:
        with pytest.raises(SgfluxError, match=rf"{message} must be on one line .*, got '.x07'"):
            read_raw([release.write()])

    aliases = release.root / "object_alias.txt"
    aliases.write_text("dog,puppy\nho\x07rse,pony\n")
    refused(r"object_alias\.txt:2: the first word")
    aliases.unlink()
    stated["predicate"] = "ne\x07ar "
    refused(
        rf"relationships\.json: image {image}, relationship {stated['relationship_id']}: the pr.*"
    )
    stated["predicate"] = "near"
    release.objects[1]["objects"][1] = {**horse, "names": ["ho\x07rse"]}
    refused(rf"objects\.json: image {image}, object {horse['object_id']}: the name")
    stated["object"]["name"] = "ho\x07rse"
    release.objects[1]["objects"][1] = {**horse, "names": []}
    release.relationships[1]["relationships"].pop(0)
    refused(rf"relationships\.json: image {image}, object {horse['object_id']}: the name")
    del release.objects[1]["objects"][1]
    refused(rf"relationships\.json: image {image}, object {horse['object_id']}: the name")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", r"relationships\.json: is empty"),
        (lambda text: text[:-20], r"relationships\.json: is not a JSON list.*truncated"),
        (lambda text: '{"a": 1}', r"relationships\.json: is not a JSON list"),
        (
            lambda text: text.replace('"x": 20', '"x": "20"'),
            r"relationships\.json: entry 0: .*float.*str.*\$\.relationships\[0\]\.object\.x",
        ),
        (lambda text: text.replace('"predicate"', '"verb"'), r"entry 0: .*predicate"),
    ],
)
def test_a_malformed_file_is_named_with_its_entry(release: Release, damage, message: str):
    release.simple("man, on, horse")
    path = release.write() / "relationships.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(SgfluxError, match=message):
        read_raw([release.root])


def test_missing_files_and_bad_urls(release: Release, tmp_path: Path):
    release.simple("man, on, horse")
    release.write()
    release.images[0]["url"] = "https://somewhere.example/../x.jpg"
    release.write()
    with pytest.raises(SgfluxError, match=r"image_data\.json: entry 0 .*must end in a folder"):
        read_raw([release.root])
    (release.root / "image_data.json").unlink()
    with pytest.raises(SgfluxError, match=r"image_data\.json: cannot be read.*unpacked"):
        read_raw([release.root])
    with pytest.raises(SgfluxError, match="is no folder"):
        read_raw([tmp_path / "none"])


def old_names(content: object) -> object:
    """The entries as release 1.0 has them: every id is called "id"."""
    if isinstance(content, list):
        return [old_names(entry) for entry in content]
    if not isinstance(content, dict):
        return content
    ids = ("image_id", "object_id", "relationship_id")
    return {"id" if name in ids else name: old_names(value) for name, value in content.items()}


def test_release_1_0_calls_every_id_id(release: Release):
    release.simple("man, riding, horse")
    thing = release.thing("dog", merged_object_ids=[77])
    release.image((thing, "on", release.thing("table")))
    new = read_raw([release.write()])
    for name in ("images", "objects", "relationships"):
        setattr(release, name, old_names(getattr(release, name)))
    old = read_raw([release.write()])
    assert statements(old) == statements(new)
    for table in ("images", "objects", "relations"):
        for column in ("ids", "images", "boxes", "paths"):
            first, second = (getattr(getattr(one, table), column, None) for one in (old, new))
            assert np.array_equal(first, second)
    del release.objects[0]["objects"][0]["id"]
    with pytest.raises(SgfluxError, match=r"objects\.json: entry 0: .*`object_id` \(or `id`\)"):
        read_raw([release.write()])


def test_an_image_without_a_url_is_looked_for_by_its_number(release: Release):
    number = release.simple("man, riding, horse")
    release.images[0]["url"] = ""
    table = read_raw([release.write()])
    assert table.images.paths == [f"{number}.jpg"]
    assert table.quirks["images without a url, looked for by their number"] == 1


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("images", "image_id", 10**30),
        ("images", "image_id", -1),
        ("images", "width", 2**40),
        ("images", "height", -5),
        ("objects", "image_id", 2**63),
    ],
)
def test_numbers_that_do_not_fit_are_named(release: Release, file: str, field: str, value: int):
    release.simple("man, riding, horse")
    getattr(release, file)[0][field] = value
    with pytest.raises(SgfluxError, match=rf"entry 0: .*`\$\.{field}`"):
        read_raw([release.write()])


@pytest.mark.parametrize(
    ("field", "value"),
    [("object_id", 10**30), ("x", 1e300), ("w", -1e30), ("merged_object_ids", [2**70])],
)
def test_numbers_of_things_that_do_not_fit_are_named(release: Release, field: str, value: object):
    release.simple("man, riding, horse")
    release.objects[0]["objects"][0][field] = value
    with pytest.raises(SgfluxError, match=rf"objects\.json: entry 0: .*{field}"):
        read_raw([release.write()])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_release_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data):
    root = tmp_path_factory.mktemp("damaged")
    release = Release(root)
    release.simple("man, riding, horse", picture=False)
    release.simple("dog, on, table", picture=False)
    release.write()
    path = root / data.draw(
        st.sampled_from(("image_data.json", "objects.json", "relationships.json"))
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from(b'0123456789"[]{},:-.eE\\ntf\xff ')
        )
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    with contextlib.suppress(SgfluxError):
        read_raw([root])
