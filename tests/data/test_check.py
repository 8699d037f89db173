"""The check of a data set lists every problem, and only problems.

If one of these failed, ``sgflux data check`` would pass a data set that a run stops at, or report
problems that are none.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgflux.data.check import PROBLEM_KINDS, check_dataset
from sgflux.data.examples import read_examples, write_examples
from sgflux.data.reading_order import MAX_TOLD
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import vocabulary_of
from tests.helpers.rows import row, write_lines, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_picture(tmp_path / "a.png", size=(20, 10))
    write_picture(tmp_path / "b.png", size=(20, 10), seed=1)
    return tmp_path


def test_a_good_file_is_counted(folder: Path):
    graph = {"objects": ["man", "hat", "dog"], "relationships": [[0, "wearing", 1], [2, "near", 0]]}
    path = write_lines(
        folder / "rows.jsonl",
        row("man, riding, horse", boxes=[[0, 0, 20, 10], [0.2, 3, 20.2, 7]]),
        row("man, wearing, hat", graph=graph, meta={"image_rel_path": "b.png"}),
        row("man, near, dog"),
    )
    report = check_dataset(path)
    assert report.ok
    assert report.problems == ()
    assert (report.rows, report.images) == (3, 2)
    assert report.predicates == {"around/near": 1, "riding": 1, "wearing": 1}
    assert report.triples == {1: 2, 2: 1}
    # "near" is symmetric: nothing to swap, and nothing known to be its inverse.
    assert report.negatives == {"role_swap": 2, "inverse": 0, "predicate": 3}
    assert report.to_text().endswith("ok")
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_every_problem_of_every_row_is_listed(folder: Path):
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    path = write_lines(
        folder / "rows.jsonl",
        "{",
        row("man, on, horse", meta={"class_id": 3}),
        "",
        row("man, kicking, horse", meta={"image_rel_path": "none.png"}),
        row("man, on, horse", meta={"image_rel_path": "../a.png"}),
        row("man, on, horse", meta={"image_rel_path": "cut.png"}),
        row("man, on, horse", boxes=[[-3, 0, 4, 4], [0, 0, 4, 11]]),
        row("man, on, horse"),
    )
    report = check_dataset(path)
    assert not report.ok
    assert report.rows == 7
    assert [(problem.line, problem.kind) for problem in report.problems] == [
        (1, "json"),
        (2, "schema"),
        (4, "predicate"),
        (4, "image"),
        (5, "image"),
        (6, "image"),
        (7, "box"),
        (7, "box"),
    ]
    assert {problem.kind for problem in report.problems} <= set(PROBLEM_KINDS)
    text = report.to_text(max_problems=2)
    assert "rows.jsonl:2: schema: meta.class_id is 3" in text
    assert "... and 6 more" in text
    assert text.endswith("8 problems")


def test_an_open_vocabulary_and_another_images_folder(folder: Path, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_lines(path, row("man, kicking, horse"))
    assert {problem.kind for problem in check_dataset(path).problems} == {"predicate", "image"}
    report = check_dataset(path, images_dir=folder, open_vocabulary=True)
    assert report.ok
    assert report.predicates == {"kicking": 1}


def test_a_row_without_any_negative_is_a_problem(folder: Path):
    # The other rows say everything else of the same picture, so that no statement is left.
    from sgflux.graphs.predicates import CANONICAL_PREDICATES

    path = write_lines(
        folder / "rows.jsonl",
        *(row(f"man, {predicate}, horse") for predicate in CANONICAL_PREDICATES),
        *(row(f"horse, {predicate}, man") for predicate in CANONICAL_PREDICATES),
    )
    report = check_dataset(path)
    assert [problem.kind for problem in report.problems] == ["negative"] * 48


def test_a_file_without_rows_and_no_file(folder: Path):
    report = check_dataset(write_lines(folder / "empty.jsonl"))
    assert [(problem.line, problem.message) for problem in report.problems] == [(0, "has no row")]
    assert f"{folder / 'empty.jsonl'}: schema: has no row\n1 problem" in report.to_text()
    with pytest.raises(SgfluxError, match=r"none\.jsonl: cannot be read"):
        check_dataset(folder / "none.jsonl")


def test_control_characters_of_the_data_are_spelt_out(folder: Path):
    words = {"subject": "man", "predicate": "\x1b]0;owned\x07\x1b[31mX", "object": "horse"}
    path = write_lines(folder / "rows.jsonl", {**row("man, on, horse"), "triple": words})
    for open_vocabulary in (True, False):
        text = check_dataset(path, open_vocabulary=open_vocabulary).to_text()
        assert r"\x1b]0;owned" in text
        assert text.replace("\n", "").isprintable()


def test_repeated_statements_and_relations_to_oneself_are_merged_and_counted(folder: Path):
    graph = {
        "objects": ["man", "hat", "dog"],
        "relationships": [
            [0, "wearing", 1],
            [2, "near", 0],
            [0, "beside", 2],
            [0, "wears", 1],
            [2, "near", 2],
        ],
    }
    path = write_lines(folder / "rows.jsonl", row("man, near, dog", graph=graph))
    report = check_dataset(path)
    assert report.ok, report.to_text()
    assert report.triples == {2: 1}
    assert report.repairs is not None
    assert report.repairs.startswith("2 repeated statements")
    assert "1 relation of an object to itself" in report.to_text()
    (example,) = read_examples(path)
    # In the words of the row's own statement, which may come second.
    assert str(example.triple) == "man, around/near, dog"
    assert example.graph.relationships == ((0, "wearing", 1), (0, "around/near", 2))
    assert example.meta["relationships_raw"] == graph["relationships"]
    write_examples(folder / "again.jsonl", [example])
    assert read_examples(folder / "again.jsonl") == [example]


def test_a_vocabulary_of_ones_own(folder: Path):
    path = write_lines(folder / "rows.jsonl", row("man, booting, horse"))
    (folder / "words.json").write_text(
        '{"predicates": [{"name": "kicking", "kind": "action"}], "aliases": {"booting": "kicking"}}'
    )
    assert [p.kind for p in check_dataset(path).problems] == ["predicate"]
    report = check_dataset(path, vocabulary=vocabulary_of(folder / "words.json"))
    assert report.ok
    assert report.predicates == {"kicking": 1}
    assert report.negatives["role_swap"] == 1


def test_a_graph_of_too_many_relationships_is_named(folder: Path):
    count = MAX_TOLD + 1
    graph = {
        "objects": [f"o{i}" for i in range(count + 1)],
        "relationships": [[i, "on", i + 1] for i in range(count)],
    }
    path = write_lines(folder / "rows.jsonl", row("o0, on, o1", graph=graph))
    (problem,) = check_dataset(path).problems
    assert "5,001 relationships, more than the 5,000" in problem.message


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_document_is_one_error_and_not_one_for_each_line(folder: Path, indent: int | None):
    path = folder / "rows.jsonl"
    rows = [row("man, on, horse")] * 3
    path.write_text(json.dumps(rows, indent=indent))
    for read in (check_dataset, read_examples):
        with pytest.raises(SgfluxError, match=r"rows\.jsonl: is one JSON document; expected"):
            read(path)
    path.write_text(json.dumps(rows[0], indent=1))
    with pytest.raises(SgfluxError, match="is one JSON document"):
        check_dataset(path)
