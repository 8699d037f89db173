"""Prompt lists of benchmarks: what becomes a row, and that every other line is named.

If one of these failed, a row would state something else than its line, or a line would be missing
without a word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgflux.cli import main
from sgflux.data.benchmarks.reading import PromptFile, read_prompt_file
from sgflux.data.examples import read_examples
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from tests.helpers.rows import SHARED_DATA, write_lines

METADATA = SHARED_DATA / "geneval_metadata.jsonl"


def geneval(tag: str, prompt: str, *include: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tag": tag, "include": list(include), "prompt": prompt, **more}


POSITION = geneval(
    "position",
    "a photo of a fork above a harp",
    {"class": "harp", "count": 1},
    {"class": "fork", "count": 1, "position": ["above", 0]},
)


def geneval2(prompt: str, *asked: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "atom_count": len(asked),
        "vqa_list": [[question, answer] for _, question, answer in asked],
        "skills": [skill for skill, _, _ in asked],
    }


def count(noun: str, number: str) -> tuple[str, str, str]:
    return "count", f"How many {noun}s are in the image?", number


def yes(skill: str, question: str) -> tuple[str, str, str]:
    return skill, question, "Yes"


CHAIN = geneval2(
    "a owl jumping over a red kite to the left of two harps",
    count("owl", "one"),
    yes("object", "Are there any owls in the image?"),
    yes("verb", "Is the owl jumping over the kite?"),
    count("kite", "one"),
    yes("attribute", "Is the kite red?"),
    yes("object", "Are there any kites in the image?"),
    yes("position", "Is the kite to the left of the harps?"),
    count("harp", "two"),
)


def read(path: Path, **more: Any) -> PromptFile:
    return read_prompt_file(path, vocabulary=DEFAULT_VOCABULARY, **more)


def stated(found: PromptFile) -> list[str]:
    return [row.graph.to_text() for row in found.rows]


def test_geneval_from_its_structure(tmp_path: Path) -> None:
    twins = geneval(
        "position",
        "a photo of two forks left of a red harp",
        {"class": "harp", "count": 1, "color": "red"},
        {"class": "fork", "count": 2, "position": ["left of", 0]},
        exclude=[{"class": "fork", "count": 3}],
    )
    alone = geneval("counting", "a photo of two forks", {"class": "fork", "count": 2})
    path = write_lines(tmp_path / "metadata.jsonl", alone, POSITION, twins)
    found = read(path)
    assert stated(found) == [
        "(harp); fork, above, harp",
        "(red harp); fork, left of, red harp; fork#2, left of, red harp",
    ]
    assert [(line.line, line.kind) for line in found.without_relation] == [(1, "counting")]
    assert not found.not_parsed
    first, second = (row.meta["benchmark"] for row in found.rows)
    assert (first["index"], second["index"]) == (1, 2), "places in the list, which name folders"
    assert second["entry"] == twins, "what GenEval's script reads is kept as it is"
    assert found.rows[0].prompt == POSITION["prompt"], "the base is told the benchmark's own words"


def test_geneval2_from_its_questions(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "geneval2_data.jsonl", CHAIN)
    found = read(path, open_vocabulary=True)
    assert stated(found) == [
        "owl, jumping over, red kite; red kite, left of, harp; red kite, left of, harp#2"
    ]
    assert found.rows[0].meta["benchmark"]["kind"] == "verb+position"
    assert "unknown predicate 'jumping over'" in read(path).not_parsed[0].reason
    few = read(path, open_vocabulary=True, max_statements=2)
    assert "states 3 relations between its 4 things" in few.not_parsed[0].reason


def test_a_prompt_of_geneval2_is_a_row_once(tmp_path: Path) -> None:
    """GenEval 2's script knows a picture by its prompt; those of the others have numbers."""
    found = read(write_lines(tmp_path / "data.jsonl", CHAIN, CHAIN), open_vocabulary=True)
    (left,) = found.not_parsed
    assert (len(found.rows), left.line) == (1, 2)
    assert "has the prompt of line 1" in left.reason
    assert len(read(write_lines(tmp_path / "metadata.jsonl", POSITION, POSITION)).rows) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({**POSITION, "include": [{"class": "harp", "size": 1}]}, "is no line of GenEval: "),
        (
            geneval("position", "p", {"class": "a", "count": 1, "position": ["above", 0]}),
            "relates to entry 0, which is no earlier one",
        ),
        ({**CHAIN, "prompt": "a owl"}, "the questions name 'red kite', which the prompt does not"),
        ({**CHAIN, "skills": ["count"]}, "8 questions in 'vqa_list' and 1 'skills'"),
        (
            geneval2("a owl near a kite", count("owl", "one"), yes("smell", "Is the owl wet?")),
            "the question 'Is the owl wet?' (smell: 'Yes') has no known form",
        ),
        (
            geneval2("a owl near", count("owl", "one"), yes("position", "Is the owl near the x?")),
            "relates to nothing that comes after it",
        ),
        (
            geneval2(
                "a owl near a kite",
                count("owl", "one"),
                yes("position", "Is the owl above the kite?"),
                count("kite", "one"),
            ),
            "asks for what the prompt does not say",
        ),
    ],
)
def test_a_damaged_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: dict[str, Any], reason: str
) -> None:
    whole = CHAIN if "vqa_list" in line else POSITION
    found = read(write_lines(tmp_path / "list.jsonl", whole, line), open_vocabulary=True)
    assert len(found.rows) == 1
    (left,) = found.not_parsed
    assert (left.file, left.line, left.text) == ("list.jsonl", 2, line["prompt"])
    assert reason in left.reason


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(json.dumps(POSITION).encode() + b'\n{"tag": \n[1]\n\xff\n')
    reasons = [line.reason for line in read(path).not_parsed]
    assert [reason.split(":")[0] for reason in reasons] == [
        "not JSON",
        "is no JSON object",
        "not UTF-8",
    ]


def test_what_hides_another_thing_is_in_front_of_it(tmp_path: Path) -> None:
    path = tmp_path / "3d_spatial.txt"
    path.write_text("a fork hidden by a harp\twhat follows a tab is no prompt\n")
    (row,) = read(path).rows
    assert row.graph.to_text() == "fork, behind, harp"
    assert row.meta["predicate_raw"] == "hidden by"
    assert row.prompt == "a fork hidden by a harp"


def test_a_file_of_no_known_form_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"prompt": "a fork"})
    with pytest.raises(SgfluxError, match="its first line is JSON of no benchmark that is known"):
        read(path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(SgfluxError, match="has no line"):
        read(tmp_path / "empty.txt")


def test_the_command_names_what_it_does_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "spatial.txt"
    prompts.write_text("a fork near a harp\na fork and a harp\nforks near harps\ntwo forks\n")
    metadata = write_lines(tmp_path / "metadata.jsonl", POSITION)
    output = tmp_path / "out" / "prompts.jsonl"
    words = ["data", "from-prompts", str(prompts), str(metadata), "--output", str(output)]
    assert main([*words, "--max-problems", "1"]) == 1
    said = capsys.readouterr().out
    assert "4 lines of t2i-compbench: 1 rows, 1 that state no relation, 2 not parsed" in said
    assert "spatial.txt:3: 'forks near harps': it does not begin with" in said
    assert "... and 1 more, which the summary lists" in said
    rows = read_examples(output)
    assert [row.image_rel_path for row in rows] == ["spatial/00000", "metadata/00000"]
    summary = json.loads((tmp_path / "out" / "prompts_summary.json").read_text())
    assert [line["line"] for line in summary["files"][0]["not_parsed"]] == [3, 4]
    assert summary["files"][0]["without_relation"][0]["text"] == "a fork and a harp"
    assert summary["files"][1]["rows_by_statements"] == {"1": 1}
    assert main(["data", "from-prompts", str(metadata), "--output", str(output)]) == 0


def test_no_row_at_all_is_an_error_that_names_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, output = tmp_path / "numeracy.txt", tmp_path / "rows.jsonl"
    prompts.write_text("two forks\n")
    assert main(["data", "from-prompts", str(prompts), "--output", str(output)]) == 2
    assert "rows_summary.json says why of each" in capsys.readouterr().err
    assert not output.exists()
    assert (tmp_path / "rows_summary.json").exists()


def test_rows_that_could_not_be_written_have_no_summary(tmp_path: Path) -> None:
    """Neither a new one nor that of an earlier run, which would be taken for theirs."""
    metadata = write_lines(tmp_path / "metadata.jsonl", POSITION)
    output, summary = tmp_path / "rows.jsonl", tmp_path / "rows_summary.json"
    output.mkdir()  # in its place no file can be put
    summary.write_text("of an earlier run")
    assert main(["data", "from-prompts", str(metadata), "--output", str(output)]) == 2
    assert not summary.exists()


def test_two_files_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "spatial.txt")
        paths[-1].write_text("a fork near a harp\n")
    words = ["data", "from-prompts", *map(str, paths), "--output", str(tmp_path / "rows.jsonl")]
    assert main(words) == 2
    assert "have one name" in capsys.readouterr().err
    assert main([*words[:2], str(paths[0]), *words[2:]]) == 2
    assert "is given twice" in capsys.readouterr().err
    dots = paths[0].rename(tmp_path / "...txt")
    assert main(["data", "from-prompts", str(dots), *words[-2:]]) == 2
    assert "the name is no folder's" in capsys.readouterr().err


@pytest.mark.skipif(not METADATA.exists(), reason="GenEval's own list is not here")
def test_the_whole_list_of_geneval() -> None:
    found = read(METADATA)
    assert (len(found.rows), len(found.without_relation), len(found.not_parsed)) == (100, 453, 0)
    assert {row.meta["benchmark"]["kind"] for row in found.rows} == {"position"}


def test_line_with_half_a_surrogate_pair_is_named_and_the_others_are_rows(tmp_path: Path) -> None:
    broken = json.dumps(POSITION).replace("a photo", "\\ud800 photo")
    path = tmp_path / "list.jsonl"
    path.write_text(f"{json.dumps(POSITION)}\n{broken}\n", encoding="utf-8")
    rows = tmp_path / "rows.jsonl"
    assert main(["data", "from-prompts", str(path), "--output", str(rows)]) == 1
    (line,) = json.loads((tmp_path / "rows_summary.json").read_text())["files"][0]["not_parsed"]
    assert (line["line"], "surrogates not allowed" in line["reason"]) == (2, True)
    assert len(read_examples(rows, vocabulary=DEFAULT_VOCABULARY)) == 1


@pytest.mark.parametrize("name", ["rows.jsonl", "rows_summary.json"])
def test_list_is_never_overwritten(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / name, POSITION)
    before = path.read_bytes()
    arguments = ["data", "from-prompts", str(path), "--output", str(tmp_path / "rows.jsonl")]
    assert main(arguments) == 2
    assert "would be overwritten; give another --output" in capsys.readouterr().err
    assert path.read_bytes() == before
