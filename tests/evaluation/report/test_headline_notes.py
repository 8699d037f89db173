"""What stands beside the figures, without which they would be misread.

If one of these failed, figures would stand without what limits them: chance, seen test data,
another base, cut prompts.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from chance import measure
from rich.console import Console

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.report.data import Evaluation, read_evaluation, read_results
from sgflux.evaluation.report.headline import (
    Figure,
    chance_sentence,
    footnotes,
    headline,
    print_headline,
    ranking_sentence,
)
from sgflux.evaluation.report.page import render
from sgflux.world.chance import CHANCE_FILE, random_drawing
from tests.helpers.evaluated import make_evaluation


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return read_evaluation(make_evaluation(tmp_path_factory.mktemp("headline")))


def printed(results: Any) -> str:
    stream = io.StringIO()
    print_headline(results, console=Console(file=stream, width=500))
    return stream.getvalue()


def test_the_errors_stand_beside_the_ranking_accuracy(evaluation: Evaluation) -> None:
    labels = [row.label for row in headline(evaluation.results)]
    place = labels.index("Ranking accuracy")
    assert labels[place + 1 : place + 5] == [
        "e(g⁺), error under the true graph",
        "e(g⁻), error under a negative graph",
        "e(∅), error without a graph",
        "e(g⁺) less e(∅)",
    ]
    rows = {row.label: row.figure for row in headline(evaluation.results)}
    assert rows["e(g⁺), error under the true graph"].percent == "0.963"
    gap = rows["e(g⁺) less e(∅)"]
    assert (gap.percent, gap.interval) == ("0.118", "0.098 to 0.139"), "the interval turns around"
    page = render(evaluation, title="t")
    assert "0.963 under the true graph and 0.845 without a graph" in page
    for text in (page, printed(evaluation.results)):
        assert "Its error is 0.963 under the true graph and 0.845 without a graph" in text
        assert "guided teacher" in text


def test_what_ranking_leaves_out_follows_the_errors() -> None:
    ranking = {"value": 0.85, "error_graph": 0.3, "error_null_graph": 0.4}
    better = ranking_sentence(ranking)
    worse = ranking_sentence({**ranking, "error_graph": 0.5})
    assert better is not None
    assert worse is not None
    assert "guided teacher" in worse
    assert "guided teacher" not in better
    assert ranking_sentence({"value": None}) is None


def test_no_page_states_a_criterion_that_the_defaults_fail(evaluation: Evaluation) -> None:
    root = Path(__file__).parents[3]
    pages = [*root.glob("docs/**/*.md"), root / "README.md", *root.glob("src/**/*.py")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for text in (*texts, render(evaluation, title="t")):
        words = " ".join(text.split())
        assert "error must not rise" not in words
        assert "because both errors got worse is a failure" not in words
        assert "because both got worse is a failure" not in words


def test_chance_is_what_random_drawing_gives(evaluation: Evaluation) -> None:
    chance = json.loads(CHANCE_FILE.read_text())
    drawn = chance["relation_accuracy"]
    assert chance["judge"] == WorldJudgeAdapter.load().identity.name
    assert drawn["n"] >= 5000
    assert drawn["ci95"][1] < 1 / 24, "a picture is no guess among 24 predicates"
    assert random_drawing("world") == drawn
    assert random_drawing("another judge") is None
    results = {**evaluation.results, "chance": {"random_drawing": drawn}}
    share = Figure.of(drawn).percent
    for text in (
        printed(results),
        render(Evaluation(**{**vars(evaluation), "results": results}), title="t"),
    ):
        assert f"Chance is {share}" in text
    assert chance_sentence({"chance": {"random_drawing": None}}) is None


def test_the_measurement_of_chance_can_be_repeated(tmp_path: Path) -> None:
    found = measure(tmp_path, per_predicate=4)
    committed = json.loads(CHANCE_FILE.read_text())
    assert set(found) == set(committed)
    assert {**found, "pictures": 0, "relation_accuracy": 0, "all_triples_right": 0} == {
        **committed, "pictures": 0, "relation_accuracy": 0, "all_triples_right": 0
    }  # fmt: skip
    low, high = found["relation_accuracy"]["ci95"]
    assert low <= committed["relation_accuracy"]["value"] <= high


def test_over_how_many_predicates_a_mean_is(evaluation: Evaluation) -> None:
    results = json.loads(json.dumps(evaluation.results))
    accuracy = results["arms"]["graph"]["relation_accuracy"]
    count = accuracy["predicates"]
    row = next(row for row in headline(results) if row.arm is Arm.GRAPH)
    assert row.note.endswith(f"mean over {count} predicates")
    accuracy["predicates"] = 20
    assert any("20 predicates that occur; 4 of 24 do not." in note for note in footnotes(results))
    del accuracy["predicates"]  # results from before
    row = next(row for row in headline(results) if row.arm is Arm.GRAPH)
    assert row.note.endswith(f"mean over {len(accuracy['per_predicate'])} predicates")


def test_the_base_has_seen_the_pairs_that_are_new_to_the_adapter(evaluation: Evaluation) -> None:
    notes = {row.label: row.note for row in headline(evaluation.results)}
    assert "the base may have seen them" in notes["Pairs new to the adapter"]
    assert any("Its base was trained before" in note for note in footnotes(evaluation.results))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ranking_accuracy", "errors", "graph", "value"), "large"),
        (("ranking_accuracy", "gap", "null_graph", "ci95"), [0.1]),
        (("arms", "graph", "relation_by_objects", "right_and_found", "macro"), [1]),
        (("prompts_cut", "arms", "graph", "cut"), -1),
    ],
)
def test_what_stands_beside_the_figures_is_checked_when_it_is_read(
    evaluation: Evaluation, tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    results = tmp_path / "evaluation_results.json"
    content = json.loads((evaluation.folder / "evaluation_results.json").read_text())
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    results.write_text(json.dumps(content))
    with pytest.raises(SgfluxError, match=path[-1]):
        read_results(tmp_path)


def test_cut_prompts_are_counted_for_each_arm(evaluation: Evaluation) -> None:
    notes = " ".join(footnotes(evaluation.results))
    assert "cut at the text encoder's 24 tokens" in notes
    assert "base_relational 3 of 4" in notes
    assert "after 24 tokens: graph 0, base_relational 3" in render(evaluation, title="t")
    none = {
        **evaluation.results,
        "prompts_cut": {"limit": 9, "arms": {"graph": {"pictures": 1, "cut": 0}}},
    }
    assert "No prompt was cut at the text encoder's 9 tokens." in footnotes(none)
