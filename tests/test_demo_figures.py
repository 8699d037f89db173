"""The demo's figures in README.md and docs/results.md are those of its record.

If one of these fails, a page states a figure that nobody has measured.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from demo_figures import (
    AIMS,
    BEGIN,
    COMMANDS,
    END,
    FULL_AIMS,
    LEFT_OUT,
    as_rows,
    as_table,
    as_text,
    blocks,
    hard_record,
    record,
    recorded,
    write_between_marks,
)

from sgflux.errors import SgfluxError
from tests.helpers.evaluated import make_evaluation

ROOT = Path(__file__).parent.parent


def test_the_table_says_what_the_evaluation_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_evaluation(tmp_path / "runs" / "demo")
    demo = record(tmp_path / "runs" / "demo", "sgflux demo")
    assert str(tmp_path) not in json.dumps(demo), "a folder of this machine is nobody's business"
    assert set(AIMS) <= set(demo["figures"])

    results = json.loads((tmp_path / "runs/demo/evaluation/evaluation_results.json").read_text())
    accuracy = results["arms"]["graph"]["relation_accuracy"]
    low, high = (100 * bound for bound in accuracy["ci95"])
    head, rule, *lines = as_table({"demo": demo, "full": {**demo, "command": "x"}}).splitlines()
    assert head == "| | `sgflux demo` | `x` | aim | aim of `--full` |"
    cell = f"{100 * accuracy['macro']:.1f}\N{NO-BREAK SPACE}% ({low:.1f} to {high:.1f})"
    assert f"| Adapter, true graph g⁺ | {cell} | {cell} | 85 % |  |" in lines
    assert {line.count("|") for line in [rule, *lines]} == {6}
    assert not any(line.startswith(f"| {label}") for line in lines for label in LEFT_OUT)


def demos_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    make_evaluation(folder / "runs" / "demo")
    one = record(folder / "runs" / "demo", "sgflux demo")
    return {name: {**copy.deepcopy(one), "command": command} for name, command in COMMANDS.items()}


def test_the_sentences_have_their_numbers_from_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demos = demos_in(tmp_path, monkeypatch)
    for demo in demos.values():
        for label in (*AIMS, *FULL_AIMS, "Pairs in the adapter's training"):
            demo["figures"].setdefault(label, {})["value"] = 1.0
        demo["chance"] = {"value": 0.05, "low": 0.04, "high": 0.06}
        demo["figures"]["Base, neutral text"] = {"value": 0.02, "low": 0.0, "high": 0.041}
    demos["full"]["figures"]["Base, relational text"]["value"] = 0.123
    demos["demo"]["seconds"] = {"data": 4.0, "training": 62.0}
    text = " ".join(as_text(demos).split())
    assert "told everything in words in 12.3 %" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "All aims of the table are met" in text
    assert "`sgflux demo` 1 min 06 s" in text
    assert "guided teacher" in text, "the errors behind the ranking accuracy are told"
    table = as_table(demos)
    assert "| e(g⁺), error under the true graph | 0.963 (0.943 to 0.983) |" in table
    for name, label in (
        ("demo", "Win rate, role swap"),
        ("full", "Two statements, true graph g⁺"),
        ("full", "Contradiction: follows the graph"),
    ):
        missing = copy.deepcopy(demos)
        missing[name]["figures"][label]["value"] = 0.6
        said = as_text(missing).replace("\n", " ")
        assert f"these are missed: {label} in `{demos[name]['command']}`" in said
    above = copy.deepcopy(demos)
    above["demo"]["figures"]["Base, neutral text"] = {"value": 0.08, "low": 0.061, "high": 0.1}
    said = as_text(above).replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "missed: Base, neutral text in `sgflux demo` (8.0 % (6.1 to 10.0), aim chance, 5.0 % "
        "(4.0 to 6.0))." in said
    )
    assert "the aim of the base, which it misses" in as_rows(above)
    assert "the aim of the base, which it misses" not in as_rows(demos)
    worse = copy.deepcopy(demos)
    worse["demo"]["figures"]["Pairs new to the adapter"]["value"] = 0.9
    worse["demo"]["figures"]["Pairs in the adapter's training"]["value"] = 0.96
    assert "(6.0 points less)" in as_text(worse).replace("\n", " ")


def test_the_five_rows_have_their_numbers_from_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demos = demos_in(tmp_path, monkeypatch)
    demo, control = (demos[name]["figures"] for name in ("demo", "demo-control"))
    for figures, label, value in (
        (demo, "Adapter, true graph g⁺", 0.111),
        (demo, "Base, relational text", 0.222),
        (demo, "Adapter, no graph", 0.333),
        (demo, "Base, neutral text", 0.444),
        (control, "Adapter, true graph g⁺", 0.555),
    ):
        figures[label]["value"] = value
    demos["demo"]["chance"]["value"] = 0.066
    demos["demo"]["hard"] = hard_record(hard_evaluation(tmp_path / "runs" / "demo"))
    _, _, *rows = as_rows(demos).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    cells = [[cell.split("(")[0].strip() for cell in row.split("|")[2:4]] for row in rows]
    assert cells == [
        ["11.1 %", "22.2 %"],
        ["50.0 %", "25.0 %"],
        ["12.5 %", "0.0 %"],
        ["33.3 %", "44.4 %"],
        ["55.5 %", "–"],
    ]
    assert "random drawing reaches 6.6 %" in rows[3]
    text = " ".join(as_text(demos).split())
    assert "graphs of three statements. Prompts cut at the text encoder's 24 tokens" in text
    assert "base_relational 3 of 48" in text
    row = "| 3 statements: Adapter, true graph g⁺ (bundled adapter) | 50.0 % | – | – | | |"
    assert row in as_table(demos).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert record(tmp_path / "runs" / "demo", "sgflux demo")["hard"] == demos["demo"]["hard"]


def hard_evaluation(demo: Path) -> Path:
    """The results of a demo's hard graphs, as far as the pages state them."""

    def kind(graph: float, words: float) -> dict[str, Any]:
        values = {"graph": graph, "base_relational": words}
        return {"arms": {arm: {"all_right": {"value": one}} for arm, one in values.items()}}

    path = demo / "hard" / "evaluation_results.json"
    path.parent.mkdir(parents=True)
    kinds = {"3 statements": kind(0.5, 0.25), "3 statements, twins": kind(0.125, 0.0)}
    cut = {"limit": 24, "arms": {"base_relational": {"pictures": 48, "cut": 3}}}
    results = {"adapter": {"fingerprint": "0"}, "graph_kinds": kinds, "prompts_cut": cut}
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def test_rows_that_were_not_measured_state_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demos = demos_in(tmp_path, monkeypatch)
    assert "hard" not in demos["demo"]
    rows = as_rows(demos).splitlines()
    assert [row.split("|")[2].strip() for row in rows if "Three statements" in row] == ["–", "–"]


def test_a_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        write_between_marks(page, f"{BEGIN}\nnew\n")
        assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SgfluxError, match="has not the two lines"):
        write_between_marks(page, "new")
    assert page.read_text() == "no marks"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_page_says_what_the_committed_figures_say(page: str) -> None:
    demos = json.loads((ROOT / "benchmarks/results/demo.json").read_text(encoding="utf-8"))
    assert blocks(demos)[page] in (ROOT / page).read_text(encoding="utf-8")


def test_a_demo_that_was_not_run_keeps_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = demos_in(tmp_path, monkeypatch)
    before["full"]["seconds"] = {"training": 1.0}
    out = tmp_path / "demo.json"
    out.write_text(json.dumps(before))
    found = recorded(tmp_path / "runs", out)
    assert list(found) == list(COMMANDS)
    assert found["full"] == before["full"]
    assert found["demo"] == record(tmp_path / "runs" / "demo", "sgflux demo")
    out.write_text(json.dumps({"demo-control": before["demo-control"]}))
    with pytest.raises(SgfluxError, match="run 'sgflux demo --full'"):
        recorded(tmp_path / "runs", out)


def test_the_bundled_adapters_figures_are_read_without_a_new_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = demos_in(tmp_path, monkeypatch)
    out = tmp_path / "demo.json"
    out.write_text(json.dumps(before))
    results = hard_evaluation(tmp_path / "again" / "demo")
    found = recorded(tmp_path / "again", out)
    assert found == {**before, "demo": {**before["demo"], "hard": hard_record(results)}}
