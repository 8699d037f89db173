"""The check of a data set lists every problem, and only problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgflux.data.check import PROBLEM_KINDS, check_dataset
from sgflux.errors import SgfluxError

from .rows import row, write_lines, write_picture


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
