"""Graphs in whatever form people have them, one or many in a file.

If one of these failed, a graph that a user writes would be refused, or be read as another graph.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.reading import UnknownWordError, read_graph, read_graph_file
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError

SG2IM = {"objects": ["man", "horse", "hat"], "relationships": [[0, "riding", 1], [0, "wears", 2]]}
RIDER = SceneGraph(("man", "horse", "hat"), ((0, "riding", 1), (0, "wearing", 2)))
TRIPLES = [["man", "riding", "horse"], ["man", "wears", "hat"]]
WORDS = [dict(zip(("subject", "predicate", "object"), entry, strict=True)) for entry in TRIPLES]
ROW = {"prompt": "p", "concepts": ["x"], "triple": WORDS[0], "meta": {"image_rel_path": "a.png"}}


@pytest.mark.parametrize(
    "value",
    [
        "man, riding, horse; man, wears, hat",
        '"man, riding, horse; man, wears, hat"',
        SG2IM,
        json.dumps(SG2IM),
        f"  {json.dumps(SG2IM, indent=2)}\n",
        TRIPLES,
        json.dumps(TRIPLES),
        tuple(map(tuple, TRIPLES)),
        WORDS,
        {**ROW, "graph": SG2IM},
        {"graph": "man, riding, horse; man, wears, hat"},
        SceneGraph.parse("man, ride, horse; man, is wearing a, hat"),
    ],
)
def test_every_form_is_the_same_graph(value: object) -> None:
    assert read_graph(value).graph == RIDER


def test_one_triple_is_a_graph() -> None:
    for value in (ROW, WORDS[0], TRIPLES[:1]):
        assert read_graph(value).graph == SceneGraph.parse("man, riding, horse")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "man, rideing, horse",
            r"graph 'man, rideing, horse': unknown predicate 'rideing'.*'ridin",
        ),
        (SG2IM | {"relationships": [[0, "rideing", 1]]}, "unknown predicate 'rideing'.*'riding'"),
        ('[["man", "riding"', "looks like JSON but is not"),
        (["man", "riding", "horse"], "expected the text form"),
        ([], "expected the text form.*got \\[\\]"),
        (3, "got 3"),
        ({"objects": ["man"]}, r"missing \['relationships'\]"),
        (
            {"objects": ["Dog", "dog#2"], "relationships": [[0, "on", 1]]},
            r"objects\[1\] = 'dog#2': in JSON, another dog has the same name",
        ),
        ([["a,b", "on", "c"]], "triple 1 has a ','"),
        ([["", "on", "c"]], "the triple's subject must not be empty"),
    ],
)
def test_what_is_no_graph_is_named(value: object, message: str) -> None:
    with pytest.raises(SceneGraphError, match=message):
        read_graph(value)


def test_a_name_with_a_number_of_its_own_is_no_twin() -> None:
    """Pictures of Visual Genome show an "exit" and an "exit #2"."""
    for names in (["exit", "exit #2"], ["cat", "dog#2"]):
        graph = read_graph({"objects": names, "relationships": [[0, "on", 1]]}).graph
        assert graph.objects == tuple(names)


def test_words_may_be_open_or_ones_own() -> None:
    kicking = DEFAULT_VOCABULARY.with_predicate("kicking", kind="action")
    with pytest.raises(UnknownWordError):
        read_graph("man, is kicking a, ball")
    for settings_ in ({"open_vocabulary": True}, {"vocabulary": kicking}):
        read = read_graph("man, is kicking a, ball", **settings_)  # type: ignore[arg-type]
        assert read.graph.relationships == ((0, "kicking", 1),)


def test_what_is_merged_and_left_out_is_counted() -> None:
    entries = [[0, "near", 1], [1, "beside", 0], [0, "near", 1], [1, "on", 1]]
    read = read_graph({"objects": ["boy", "field"], "relationships": entries}, where="x.json:3")
    assert (read.merged.repeated, read.merged.self_related) == (2, 1)
    remark = read.remark()
    assert remark is not None
    assert remark.startswith("x.json:3: 2 repeated statements")
    assert remark.endswith("1 relation of an object to itself left out")
    assert read_graph(SG2IM).remark() is None


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("one.json", json.dumps(SG2IM), 1),
        ("indented.json", json.dumps(SG2IM, indent=1), 1),
        ("many.json", json.dumps([SG2IM, SG2IM, "man, riding, horse; man, wears, hat"]), 3),
        ("triples.json", json.dumps(TRIPLES), 1),
        ("lists_of_triples.json", json.dumps([TRIPLES, TRIPLES]), 2),
        ("lines.jsonl", "\n".join([json.dumps(SG2IM)] * 3) + "\n", 3),
        ("rows.jsonl", "\r\n".join([json.dumps({**ROW, "graph": SG2IM})] * 2), 2),
        ("mixed.jsonl", f"{json.dumps(SG2IM)}\n\n{json.dumps(TRIPLES)}\n", 2),
        ("bom.jsonl", "\ufeff" + json.dumps(SG2IM), 1),
        (
            "text.txt",
            "man, riding, horse; man, wears, hat\n\nman, riding, horse; man, wears, hat",
            2,
        ),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, count: int) -> None:
    (tmp_path / name).write_bytes(text.encode())
    found = read_graph_file(tmp_path / name)
    assert [one.graph for one in found] == [RIDER] * count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no graph"),
        (b" \n\n", "has no graph"),
        (b"[]", "has no graph"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"objects": ["a"]', "file:1: looks like JSON but is not"),
        (b"man, on, mat\nman, rideing, horse\n", "file:2: unknown predicate 'rideing'"),
        (b"man, on, mat\nman, ri\0ding, horse\n", "file:2: .*the predicate must be on one line"),
        (
            b'{"objects": ["man", "m\\nat"], "relationships": [[0, "on", 1]]}',
            r"file: objects.1. must be on one line",
        ),
        (b'["man, on, mat", "man, rideing, horse"]', "file: graph 2: unknown predicate"),
        (b"[3]", "file: graph 1: expected"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(SceneGraphError, match=message):
        read_graph_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(SceneGraphError, match=str(path)):
            read_graph_file(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("objects", "relationships", "graph", "triple", "subject", "x")), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_a_graph_or_one_clear_error(value: object) -> None:
    for given_ in (value, json.dumps(value)):
        # Anything else that is raised is a fault.
        with contextlib.suppress(SgfluxError):
            assert isinstance(read_graph(given_, open_vocabulary=True).graph, SceneGraph)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    content = bytearray(json.dumps([SG2IM, TRIPLES]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(bytes(content))
    with contextlib.suppress(SgfluxError):
        assert read_graph_file(path, open_vocabulary=True)
