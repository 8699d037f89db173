"""Rows: what is accepted, what is kept, and that errors say where and what.

If one of these failed, a malformed row would be trained on, a field would be lost on the way back
to JSON, or an error would not name the line.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from sgflux.data.examples import (
    SceneExample,
    known_graphs,
    read_examples,
    resolve_image,
    write_examples,
)
from sgflux.data.prompts import contradicting_prompt, prompt_for, prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import (
    DEFAULT_VOCABULARY,
    PredicateKind,
    PredicateVocabulary,
    UnknownPredicateError,
)
from sgflux.graphs.scene_graph import SceneGraph, Triple
from tests.helpers.rows import example, row, write_lines

GRAPH = {"objects": ["horse", "man", "hat"], "relationships": [[1, "riding", 0], [1, "wears", 2]]}


def test_a_row_without_a_graph_gets_that_of_its_triple():
    read = SceneExample.from_json(row("dog#2, on, dog#2"))
    assert read.graph == SceneGraph(objects=("dog#2", "dog#2"), relationships=((0, "on", 1),))
    assert "graph" not in read.to_json()


def test_predicates_become_canonical_and_the_words_of_the_file_stay():
    read = SceneExample.from_json(row("man,  Ride , horse", graph=GRAPH))
    assert read.triple == Triple("man", "riding", "horse")
    assert read.meta["predicate_raw"] == "Ride"
    assert read.graph.relationships == ((1, "riding", 0), (1, "wearing", 2))
    assert read.meta["relationships_raw"] == [[1, "riding", 0], [1, "wears", 2]]
    assert read.triple_index == 0


def test_the_raw_predicate_of_the_file_is_not_overwritten():
    read = SceneExample.from_json(row("man, on, horse", meta={"predicate_raw": "sits atop"}))
    assert read.meta["predicate_raw"] == "sits atop"


def test_two_wordings_of_one_statement_become_one_and_both_words_stay():
    graph = {"objects": ["cup", "table"], "relationships": [[0, "on", 1], [0, "on top of", 1]]}
    read = SceneExample.from_json(row("cup, on, table", graph=graph))
    assert read.graph.relationships == ((0, "on", 1),)
    assert read.meta["relationships_raw"] == graph["relationships"]


@pytest.mark.parametrize("boxes", [None, [[0, 1.5, 4, 4], [1, 2, 3, 4], [0, 0, 2, 2]]])
def test_a_round_trip_keeps_every_field(tmp_path: Path, boxes: object):
    written = row(
        graph=GRAPH,
        score=0.5,
        notes={"by": ["ä", None]},
        meta={"predicate_raw": "riding", "class_id": 17, "weird": {"x": [1]}, "h5_split": "val"},
    )
    if boxes is not None:
        written["boxes"] = boxes
    read = SceneExample.from_json(written)
    path = tmp_path / "new" / "rows.jsonl"
    assert write_examples(path, [read, read]) == 2
    assert read_examples(path) == [read, read]
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first.pop("graph")["relationships"] == [[1, "riding", 0], [1, "wearing", 2]]
    assert first["meta"].pop("relationships_raw") == GRAPH["relationships"]
    written.pop("graph")
    assert first == written


def test_a_replaced_graph_is_written_even_if_the_row_had_none():
    read = SceneExample.from_json(row())
    changed = SceneExample(
        **{**read.__dict__, "graph": SceneGraph.parse("man, riding, horse; (hat)")}
    )
    assert changed.to_json()["graph"]["objects"] == ["man", "horse", "hat"]


def test_an_example_is_frozen_and_survives_pickling():
    read = example(graph=GRAPH)
    assert pickle.loads(pickle.dumps(read)) == read
    with pytest.raises(TypeError):
        read.meta["image_rel_path"] = "b.png"  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " "}, r"prompt must be a non-empty string, got ' '"),
        ({"concepts": "man"}, r"concepts must be a non-empty list"),
        ({"concepts": ["man", 3]}, r"concepts\[1\] must be a non-empty string, got 3"),
        ({"concepts": ["man", "ri\0ding"]}, r"concepts\[1\] must be on one line .*, got '\\x00'"),
        (
            {"triple": {"subject": "man", "predicate": "riding", "object": "horse\n"}},
            r"triple.object must be on one line",
        ),
        ({"meta": {"predicate_raw": "rid\ting"}}, r"meta.predicate_raw must be on one line"),
        (
            {"meta": {"known_triples": [["man", "on", "mat"], ["man", "o\x1bn", "mat"]]}},
            r"meta.known_triples\[1\] must be on one line",
        ),
        (
            {"graph": {"objects": ["man", "hor\nse"], "relationships": [[0, "riding", 1]]}},
            r"graph: objects\[1\] must be on one line",
        ),
        (
            {"graph": {"objects": ["man", "horse"], "relationships": [[0, "rid\0ing", 1]]}},
            r"graph: relationships\[0\]: the predicate must be on one line",
        ),
        ({"triple": {"subject": "man"}}, r"triple must have exactly the fields"),
        ({"triple": ["man", "on", "horse"]}, r"triple must have exactly the fields"),
        ({"meta": []}, r"meta must be an object"),
        ({"meta": {"image_rel_path": 3}}, r"meta.image_rel_path must be the picture's path"),
        ({"meta": {"predicate_raw": 3}}, r"meta.predicate_raw must be a non-empty string"),
        ({"meta": {"class_id": "17"}}, r"meta.class_id must be an integer"),
        ({"meta": {"class_id": 16}}, r"class_id is 16, but .*'riding' has the class id 17"),
        ({"graph": {"objects": ["man"]}}, r"graph: .*missing \['relationships'\]"),
        (
            {"graph": {"objects": ["man", "hat"], "relationships": [[0, "wearing", 1]]}},
            r"the graph states 'man, wearing, hat' but not the triple 'man, riding, horse'",
        ),
        (
            {"graph": {"objects": ["man", "horse"], "relationships": [[1, "riding", 0]]}},
            r"not the triple",
        ),
        ({"boxes": [[0, 0, 2, 2]]}, r"boxes has 1 entries, but the graph has 2 objects"),
        ({"boxes": [[0, 0, 2, 2], [0, 0, 2]]}, r"boxes\[1\] must be \[x, y, width, height\]"),
        ({"boxes": [[0, 0, 2, 2], [0, 0, 2, 0]]}, r"boxes\[1\].*above 0"),
        ({"boxes": [[0, 0, 2, 2], [0, 10**400, 2, 1]]}, r"boxes\[1\]"),
        ({"boxes": [[True, 0, 2, 2], [0, 0, 2, 1]]}, r"boxes\[0\]"),
    ],
)
def test_a_bad_field_is_named(changes: dict, message: str):
    bad = row()
    if isinstance(changes.get("meta"), dict):
        changes = {"meta": {**bad["meta"], **changes["meta"]}}
    with pytest.raises(SgfluxError, match=message):
        SceneExample.from_json({**bad, **changes})


def test_a_missing_field_is_named():
    with pytest.raises(SgfluxError, match=r"missing \['concepts', 'meta'\]"):
        SceneExample.from_json({"prompt": "x", "triple": row()["triple"]})


def test_an_unknown_predicate_names_the_nearest_and_an_open_vocabulary_accepts_it():
    unknown = row("man, ridding, horse", meta={"class_id": 3})
    with pytest.raises(SgfluxError, match=r"triple.predicate: .*'ridding'.*'riding'") as caught:
        SceneExample.from_json(unknown)
    assert isinstance(caught.value.__cause__, UnknownPredicateError)
    read = SceneExample.from_json(unknown, open_vocabulary=True)
    assert read.triple.predicate == "ridding"
    graph = {"objects": ["man", "horse"], "relationships": [[0, "on", 1], [0, "kicks", 1]]}
    with pytest.raises(SgfluxError, match=r"graph.relationships\[1\]: unknown predicate 'kicks'"):
        SceneExample.from_json(row("man, on, horse", graph=graph))


def test_an_extended_vocabulary_decides_what_is_known_and_its_class_id():
    vocabulary = DEFAULT_VOCABULARY.with_predicate("kicking", kind="action")
    read = SceneExample.from_json(
        row("man, kicking, horse", meta={"class_id": 24}), vocabulary=vocabulary
    )
    assert read.triple.predicate == "kicking"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"not JSON: .* at column 2"),
        ("[1]", r"a row must be a JSON object, got \[1\]"),
        ('{"prompt": NaN}', r"not JSON .*NaN is no JSON number"),
        (b'{"prompt": "\xff"}', r"not UTF-8"),
        (r'{"prompt": "\ud800"}', r"not UTF-8"),
        ("[" * 100_000, r"not JSON"),
        ('{"prompt": 1' + "0" * 5000 + "}", r"not JSON"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path, line: object, message: str):
    path = write_lines(tmp_path / "rows.jsonl", row(), "", line, row())
    with pytest.raises(SgfluxError, match=rf"rows\.jsonl:3: {message}"):
        read_examples(path)


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path):
    path = write_lines(tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + json.dumps(row()).encode(), " ")
    assert len(read_examples(path)) == 1


def test_empty_and_missing_files_are_errors(tmp_path: Path):
    with pytest.raises(SgfluxError, match=r"empty\.jsonl: has no row"):
        read_examples(write_lines(tmp_path / "empty.jsonl", ""))
    with pytest.raises(SgfluxError, match=r"none\.jsonl: cannot be read: No such file"):
        read_examples(tmp_path / "none.jsonl")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    write_examples(path, [example()])
    before = path.read_bytes()
    with pytest.raises(SgfluxError, match=r"rows\.jsonl:2: cannot be written as JSON"):
        write_examples(path, [example(), example(meta={"bad": {1, 2}})])
    with pytest.raises(SgfluxError, match="there is no example"):
        write_examples(path, [])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]


def test_pictures_are_found_below_the_root(tmp_path: Path):
    (tmp_path / "VG_100K").mkdir()
    found = resolve_image(example(meta={"image_rel_path": "VG_100K/1.jpg"}), tmp_path)
    assert found == tmp_path.resolve() / "VG_100K" / "1.jpg"


@pytest.mark.parametrize(
    "escape", ["../x.png", "a/../../x.png", "/etc/passwd", "..", ".", "a\0b", "..\\x.png"]
)
def test_a_path_out_of_the_root_is_refused(tmp_path: Path, escape: str):
    with pytest.raises(SgfluxError, match="image_rel_path"):
        resolve_image(example(meta={"image_rel_path": escape}), tmp_path)


def test_links_of_the_users_own_are_followed_wherever_they_lead(tmp_path: Path):
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "real.png").write_bytes(b"x")
    (root / "inside.png").symlink_to(root / "real.png")
    # A folder on another disk, or a hub cache whose files are links to its blobs.
    for name in ("link.png", "up/secret.png"):
        found = resolve_image(example(meta={"image_rel_path": name}), root)
        assert found == (tmp_path / "secret.png").resolve()
    with pytest.raises(SgfluxError, match="image_rel_path 'loop' is no usable path"):
        resolve_image(example(meta={"image_rel_path": "loop"}), root)
    with pytest.raises(SgfluxError, match=r"without '\.\.'"):
        resolve_image(example(meta={"image_rel_path": "up/../secret.png"}), root)
    inside = resolve_image(example(meta={"image_rel_path": "inside.png"}), root)
    assert inside == root.resolve() / "real.png"
    with pytest.raises(SgfluxError, match="is no folder"):
        resolve_image(example(), tmp_path / "nowhere")


def test_prompts_of_one_triple():
    read = SceneExample.from_json(row(prompt="A man is riding his horse."))
    assert prompt_for(read, "relational") == "A man is riding his horse."
    assert prompt_for(read, "neutral") == "a photo of man and horse"
    assert prompt_for(read, "empty") == ""
    with pytest.raises(SgfluxError, match="kind of prompt must be one of"):
        prompt_for(read, "both")  # type: ignore[arg-type]


def test_prompts_of_several_triples_list_their_objects_in_the_graphs_order_in_neutral():
    graph = SceneGraph.parse("(tree); man, next to, horse; man, wears, hat; dog, on, dog#2")
    assert prompts_for_graph(graph, "relational") == (
        "a photo of man near horse and man wearing hat and dog on another dog and tree"
    )
    assert prompts_for_graph(graph, "neutral") == (
        "a photo of tree and man and horse and hat and dog and dog"
    )
    assert prompts_for_graph(SceneGraph.null(), "relational") == ""
    two = SceneExample.from_json(row("man, riding, horse", graph=GRAPH))
    # In reading order: the rider is above the horse.
    assert prompt_for(two, "relational") == "a photo of man wearing hat and man riding horse"
    swapped = {**GRAPH, "relationships": GRAPH["relationships"][::-1]}
    assert swapped != GRAPH
    other = SceneExample.from_json(row("man, riding, horse", graph=swapped))
    assert prompt_for(other, "relational") == prompt_for(two, "relational")


def test_a_contradicting_prompt_changes_one_statement_and_follows_from_the_graph():
    graph = SceneGraph.parse("man, riding, horse; man, wearing, hat")
    true = prompts_for_graph(graph, "relational").removeprefix("a photo of ").split(" and ")
    text = prompts_for_graph(graph, "contradicting")
    said = text.removeprefix("a photo of ").split(" and ")
    assert len(said) == 2
    assert len({*said} - {*true}) == 1
    assert prompts_for_graph(graph, "contradicting") == text
    # One swap in about every second text, whatever the predicates.
    swapped = [
        prompts_for_graph(SceneGraph.parse(f"{name}, riding, horse"), "contradicting")
        == f"a photo of horse riding {name}"
        for name in map("man{}".format, range(40))
    ]
    assert 10 < sum(swapped) < 30


def test_a_graph_without_a_false_statement_has_its_neutral_prompt_for_a_contradicting_one():
    assert prompts_for_graph(SceneGraph.parse("(dog)"), "contradicting") == "a photo of dog"
    few = PredicateVocabulary(
        names=("near",),
        aliases={},
        inverses={},
        symmetric=frozenset({"near"}),
        kinds={"near": PredicateKind.SPATIAL},
    )
    graph = SceneGraph.parse("dog, near, box")
    assert contradicting_prompt(graph, few) == "a photo of dog and box"


def test_known_graphs_collect_what_all_rows_state_of_a_picture():
    known = known_graphs(
        [
            example("man, riding, horse"),
            example("man, wearing, hat"),
            example("man, riding, horse"),
            example("dog, on, dog", meta={"image_rel_path": "b.png"}),
        ]
    )
    assert set(known["a.png", False].triples()) == {
        Triple("man", "riding", "horse"),
        Triple("man", "wearing", "hat"),
    }
    assert known["b.png", False].triples() == (Triple("dog", "on", "dog"),)


def test_what_a_row_knows_of_its_picture_is_known_and_checked():
    rows = [
        example("man, riding, horse", meta={"known_triples": [["man", "wearing", "hat"]]}),
        example("man, left of, horse", meta={"mirrored": True}),
    ]
    known = known_graphs(rows)
    assert set(known["a.png", False].triples()) == {
        Triple("man", "riding", "horse"),
        Triple("man", "wearing", "hat"),
    }
    # A mirror image is another picture: what is left of something there, is right of it here.
    assert known["a.png", True].triples() == (Triple("man", "left of", "horse"),)
    for meta, message in (
        ({"known_triples": [["man", "on"]]}, r"known_triples\[0\] must be \[subject"),
        ({"known_triples": [["man", "on", ""]]}, r"known_triples\[0\] must be a non-empty"),
        ({"known_triples": "man on horse"}, "known_triples must be a list"),
        ({"mirrored": 1}, "mirrored must be true or false"),
    ):
        with pytest.raises(SgfluxError, match=message):
            example(meta=meta)
