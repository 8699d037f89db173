"""The answers at the top of the report, and the tables that they rest on.

If one of these failed, the page would claim more than the figures say, or hide what limits them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.report.answers import Answer, answers
from sgflux.evaluation.report.data import Evaluation, read_evaluation, read_results
from sgflux.evaluation.report.headline import Figure
from sgflux.evaluation.report.page import render
from sgflux.evaluation.report.tables import (
    PredicateRow,
    arm_rows,
    calibration_tables,
    confusion,
    predicate_rows,
)
from tests.helpers.evaluated import forget_lines, make_evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return read_evaluation(folder)


def changed(evaluation: Evaluation, change: Callable[[Any], None]) -> dict[str, Any]:
    """A copy of the results after a change."""
    results: dict[str, Any] = json.loads(json.dumps(evaluation.results))
    change(results)
    return results


def answered(results: Any, predicates: list[PredicateRow] | None = None) -> dict[str, Answer]:
    given = [] if predicates is None else predicates
    return {answer.question: answer for answer in answers(results, arm_rows(results), given)}


def row(name: str, graph: Figure, reference: Figure) -> PredicateRow:
    return PredicateRow(name, graph, reference, *[Figure(None)] * 4, is_doubtful=False)


def share(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high], "n": 100, "clusters": 50}


CALIBRATION: dict[str, Any] = {
    "judge": {"name": "geometry", "model": "nanodet", "sha256": None},
    "standing": {
        "on": {
            "value": 0.6, "ci95": [0.5, 0.7], "n": 50, "majority": 0.55,
            "better_than_majority": "open", "source": "human",
        },
        "above": {
            "value": 0.9, "ci95": [0.8, 0.95], "n": 50, "majority": 0.5,
            "better_than_majority": "yes", "source": "human",
        },
    },
    "human": {
        "n": 204, "agreement": 0.82, "majority": 0.57, "coverage": 0.4,
        "counts": {"agreement": 120}, "ci95": {"agreement": [0.75, 0.88]},
        "per_predicate": {
            "on": {"n": 50, "agreement": 0.6, "majority": 0.55},
            "above": {"n": 50, "agreement": 0.9, "majority": 0.5},
        },
        "predicates": ["on"],
    },
    "geometric": {
        "n": 90, "balanced": 1.0, "majority": 0.5,
        "per_predicate": {"on": {"n": 90, "balanced": 1.0, "majority": 0.5}}, "predicates": ["on"],
    },
}  # fmt: skip
"""The part of a calibration that the report reads."""


@pytest.mark.parametrize(
    ("gain", "win", "tone"),
    [
        (share(0.6, 0.5, 0.7), share(0.9, 0.8, 0.95), "good"),
        (share(0.6, 0.5, 0.7), share(0.5, 0.4, 0.6), "mixed"),
        (share(0.1, -0.1, 0.3), share(0.55, 0.45, 0.65), "bad"),
    ],
)
def test_obeying_needs_a_gain_and_that_a_false_graph_is_drawn(
    evaluation: Evaluation, gain: Any, win: Any, tone: str
) -> None:
    def change(results: Any) -> None:
        results["differences"]["graph_minus_base_neutral"] = gain
        results["win_rate"] |= win

    answer = answered(changed(evaluation, change))["Does the adapter obey the graph?"]
    assert answer.tone == tone
    assert answer.short.startswith("Yes") == (tone == "good")


def test_nobody_obeys_where_nobody_has_judged(evaluation: Evaluation) -> None:
    def change(results: Any) -> None:
        results["judge"] = {"name": "none", "accuracy": None, "note": "nobody has looked"}
        results["arms"] = {}
        results["differences"] = {}

    given = answered(changed(evaluation, change))
    answer = given["Does the adapter obey the graph?"]
    assert (answer.short, answer.tone) == ("Not judged", "open")
    assert "0.963 under the true graph" in " ".join(answer.sentences)
    assert given["How good is the judge?"].sentences == ["Nobody has looked."]


def test_a_judge_without_calibration_is_called_so(evaluation: Evaluation) -> None:
    def change(results: Any) -> None:
        results["judge"] = {"name": "x", "accuracy": None, "note": "there were no pictures"}

    answer = answered(changed(evaluation, change))["How good is the judge?"]
    assert (answer.short, answer.tone) == ("Not calibrated", "bad")


def test_predicates_are_clear_only_where_the_intervals_are_apart(evaluation: Evaluation) -> None:
    rows = [
        row("on", Figure(0.9, 0.7, 1.0, 9), Figure(0.2, 0.1, 0.5, 9)),
        row("in", Figure(0.5, 0.3, 0.7, 9), Figure(0.4, 0.2, 0.6, 9)),
        row("above", Figure(0.1, 0.0, 0.3, 9), Figure(0.4, 0.2, 0.6, 9)),
    ]
    answer = answered(evaluation.results, rows)["For which predicates?"]
    assert answer.short == "Clearly for 1 of 3 predicates, perhaps for 1 more"
    shown = " ".join(answer.sentences).replace("\N{NO-BREAK SPACE}", " ")
    assert "Clearly more often than the base with neutral text: on 90 %." in shown
    assert "Not more often: above 10 %." in shown


def without(evaluation: Evaluation, *arms: str) -> Evaluation:
    """The evaluation as if some arms had not been drawn."""

    def change(results: Any) -> None:
        for arm in arms:
            del results["arms"][arm]
            del results["differences"][f"graph_minus_{arm}"]

    return Evaluation(**{**vars(evaluation), "results": changed(evaluation, change)})


def where(evaluation: Evaluation) -> Answer:
    return answered(evaluation.results, predicate_rows(evaluation))["For which predicates?"]


def chart_and_table(evaluation: Evaluation) -> str:
    page = render(evaluation, title="t").replace("\N{NO-BREAK SPACE}", " ")
    return page.partition('id="by-predicate"')[2].partition('id="named"')[0]


def test_predicates_are_compared_with_the_adapter_without_a_graph_where_no_base_is_drawn(
    evaluation: Evaluation,
) -> None:
    """A base that was never drawn would count as one that shows nothing at all."""
    bare = without(evaluation, "base_neutral")
    figures = bare.results["arms"]["null_graph"]["relation_accuracy"]["per_predicate"]
    rows = predicate_rows(bare)
    assert {one.name: one.reference.value for one in rows} == {
        name: figure["value"] for name, figure in figures.items()
    }
    not_higher = [
        one.name
        for one in rows
        if one.graph.value is not None and one.graph.value <= figures[one.name]["value"]
    ]
    assert not_higher, "else nothing is tested"
    answer = where(bare)
    (listed,) = (one for one in answer.sentences if one.startswith("Not more often: "))
    assert all(name in listed for name in not_higher)
    assert "the base" not in " ".join(answer.sentences)
    shown = chart_and_table(bare)
    assert '"key base"></span> the adapter without a graph' in shown
    assert f"no graph {rows[0].reference.percent.replace(chr(160), ' ')}, both" in shown
    # A clear predicate is named beside what it is compared with.
    clear = row("on", Figure(0.9, 0.7, 1.0, 9), Figure(0.2, 0.1, 0.5, 9))
    said = answered(bare.results, [clear])["For which predicates?"]
    assert said.sentences[0].startswith("Clearly more often than the adapter without a graph: on")


def test_predicates_without_any_reference_are_listed_alone(evaluation: Evaluation) -> None:
    bare = without(evaluation, "base_neutral", "null_graph")
    rows = predicate_rows(bare)
    answer = where(bare)
    assert (answer.short, answer.tone) == ("24 predicates, compared with nothing", "open")
    words = " ".join(answer.sentences)
    assert f"{rows[0].name} {rows[0].graph.rounded}" in words
    assert "more often" not in words
    assert "Clearly" not in words
    shown = chart_and_table(bare)
    assert "key base" not in shown
    assert '"base"' not in shown
    assert re.search(r"with the graph [^,]*, both objects found", shown)
    table = shown.partition('id="by_predicate"')[2]
    head, line = re.findall(r"<tr>.*?</tr>", table, flags=re.S)[:2]
    assert head.count("<th") == line.count("<td") == 10
    alone = answered(bare.results, [row("on", Figure(0.9), Figure(None))])
    assert alone["For which predicates?"].short == "1 predicate, compared with nothing"


def test_one_predicate_without_a_figure_of_the_reference_is_not_higher(
    evaluation: Evaluation,
) -> None:
    rows = [
        row("on", Figure(0.9, 0.7, 1.0, 9), Figure(0.2, 0.1, 0.5, 9)),
        row("in", Figure(0.5, 0.3, 0.7, 9), Figure(None)),
    ]
    answer = answered(evaluation.results, rows)["For which predicates?"]
    assert answer.short == "Clearly for 1 of 2 predicates"
    assert "Compared with nothing: in 50\N{NO-BREAK SPACE}%." in answer.sentences


def test_an_arm_alone_is_compared_with_nothing(evaluation: Evaluation) -> None:
    others = [str(one.arm) for one in arm_rows(evaluation.results) if one.arm is not Arm.GRAPH]
    answer = answered(without(evaluation, *others).results)["Against what?"]
    assert answer.short == "Nothing"


def test_a_sign_test_and_distances_are_shown_where_there_are_any(evaluation: Evaluation) -> None:
    old = changed(evaluation, lambda results: results.pop("comparisons"))
    assert not any(one.test for one in arm_rows(old)), "results of an earlier version have none"

    def change(results: Any) -> None:
        test = {"better": 70, "n_discordant": 73, "p_sign": 1e-9, "p_holm": 0.0123}
        results["comparisons"]["base_neutral"].update(test)
        words = {"value": 0.01, "ci95": [0, 0.02], "n": 9}
        words["graph_minus_this"] = {"value": 0.0023, "ci95": [-0.001, 0.0056]}
        results["quality"] = {"KID": {"graph": {"value": 0.0123, "n": 9}, "base_relational": words}}

    results = changed(evaluation, change)
    rows = {one.arm: one for one in arm_rows(results)}
    assert rows[Arm.BASE_NEUTRAL].test.replace("\N{NO-BREAK SPACE}", " ") == (
        "better on 70, worse on 3; p < 0.001, Holm-adjusted p = 0.012"
    )
    given = answered(results)
    assert rows[Arm.BASE_NEUTRAL].test in " ".join(given["How sure are we?"].sentences)
    quality = given["What does it cost in quality?"]
    assert (
        "KID: 0.012 from the base's pictures to those with the graph (0 if nothing changes; "
        "n = 9), and 0.010 (0.000 to 0.020) to those of the base told in words."
    ) in quality.sentences
    page = render(Evaluation(**{**vars(evaluation), "results": results}), title="t")
    table = page.partition('id="quality-1"')[2].partition("</table>")[0]
    assert "\N{MINUS SIGN}0.001 to 0.006" in table


def test_predicates_that_the_judge_is_bad_at_are_marked(evaluation: Evaluation) -> None:
    results = changed(evaluation, lambda results: results.update(calibration=CALIBRATION))
    people, boxes = calibration_tables(results)
    assert [name for name, *_ in people.lines] == ["all", "above", "on†"]
    assert [name for name, *_ in boxes.lines] == ["all", "on"], "people say how far it is trusted"
    assert (people.counted, boxes.counted) == (["on"], [])
    assert people.right == Figure(0.82, 0.75, 0.88, 120)
    answer = answered(results)["How good is the judge?"]
    assert "right about 82.0\N{NO-BREAK SPACE}% (75.0 to 88.0)" in answer.sentences[0]
    page = render(Evaluation(**{**vars(evaluation), "results": results}), title="t")
    for place in (">on†</text>", "<td>on†</td>", "on† "):  # chart, tables, answer
        assert place in page
    assert "riding†" in page, "nobody has calibrated it"
    assert "above†" not in page


def test_corrected_figures_stand_beside_the_judges_own(evaluation: Evaluation) -> None:
    def change(results: Any) -> None:
        results["calibration"] = CALIBRATION
        results["correction"] = {"rates": {}, "impossible": {"on": "it is not known"}}

    bare = changed(evaluation, change)
    page = render(Evaluation(**{**vars(evaluation), "results": bare}), title="t")
    assert "Corrected for the judge" not in page
    assert "No correction is possible for on (it is not known)." in page
    assert "no correction is possible: where" in " ".join(
        answered(bare)["How good is the judge?"].sentences
    )

    def correct(results: Any) -> None:
        change(results)
        rate = {"value": 0.9, "ci95": [0.8, 1.0], "n": 9, "clusters": 9}
        rates = {"sensitivity": rate, "false_positives": {**rate, "of": "swapped_accepted"}}
        results["correction"]["rates"] = {"above": {"source": "human", **rates}}
        results["arms"]["graph"]["corrected"] = {
            "macro": 0.7654, "ci95": [0.6, 0.9], "n": 40, "predicates": 1,
            "per_predicate": {"above": share(0.7654, 0.6, 0.9)},
            "raw": {"macro": 0.8, "ci95": [0.7, 0.9], "n": 40, "predicates": 1},
            "decided": share(0.5, 0.4, 0.6), "of_all": [0.38, 0.88],
        }  # fmt: skip

    results = changed(evaluation, correct)
    page = render(Evaluation(**{**vars(evaluation), "results": results}), title="t")
    assert "Corrected for the judge" in page
    table = page.partition('id="corrected"')[2].partition("</table>")[0]
    assert table.count("<tr") == 2, "the other arms have no corrected figure"
    for words in ("50.0 %", "80.0", "76.5", "60.0 to 90.0", "38 % to 88"):
        assert words in table
    given = answered(results)
    assert "Corrected for the errors of the judge it is 76.5" in " ".join(
        given["Does the adapter obey the graph?"].sentences
    )
    assert "no correction is possible for on" in " ".join(given["How good is the judge?"].sentences)


def test_coverage_is_the_share_with_both_objects_found(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    found = [
        said.found
        for picture in evaluation.pictures
        if picture.arm is Arm.GRAPH
        for triple, said in picture.own.items()
        if triple.predicate == "below"
    ]
    (below,) = (one for one in predicate_rows(evaluation) if one.name == "below")
    assert below.found.n == len(found)
    assert below.found.value == pytest.approx(sum(found) / len(found))
    # The world's judge also names a relation between objects that it does not find.
    copy = Path(shutil.copytree(evaluation.folder, tmp_path / "evaluation"))
    forget_lines(copy)
    path = copy / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["judge"]["present"] = []
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (below,) = (one for one in predicate_rows(read_evaluation(copy)) if one.name == "below")
    assert below.found.value == 0.0
    assert below.graph.value == 1.0
    # Another judge looks for no objects, and says itself where one is not found.
    for line in lines:
        del line["judge"]["present"]
        for one in line["verdict"]["verdicts"]:
            one["verdict"] = "contradicted"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (below,) = (one for one in predicate_rows(read_evaluation(copy)) if one.name == "below")
    assert below.found.value == 1.0


def test_confusions_count_every_statement_once(evaluation: Evaluation) -> None:
    found = confusion(evaluation)
    graph = evaluation.results["arms"]["graph"]["relation_accuracy"]
    assert found.counts.total() == graph["n"]
    for name, entry in graph["per_predicate"].items():
        assert found.total(name) == entry["n"]
        assert found.counts[name, name] == round(entry["value"] * entry["n"])
    assert all(stated != named for stated, named, _ in found.most_frequent(5))


def test_boxes_are_drawn_where_the_judge_gives_them(folder: Path, tmp_path: Path) -> None:
    """Also those of one of several judges, whose evidence stands under its name."""
    copy = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    forget_lines(copy)
    path = copy / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    name = lines[0]["statements"][0][0]
    box = {"box": [16, 32, 8, 4], "score": 0.9}
    lines[0]["judge"] = {"judges": {"geometry": {"boxes": {name: box}}}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = read_evaluation(copy)
    assert evaluation.pictures[0].boxes == {name: (16, 32, 8, 4)}
    assert "Draw verdicts into" in render(read_evaluation(folder), title="t")
    page = render(evaluation, title="t")
    assert "Draw boxes and verdicts into" in page
    assert '<rect x="25.0" y="50.0" width="12.5" height="6.2"/>' in page  # 64 pixels are 100 units
    lines[0]["judge"]["judges"]["geometry"]["boxes"][name]["box"] = [1, 2, 3]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SgfluxError, match="box"):
        read_evaluation(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calibration", {**CALIBRATION, "standing": {"on": {"value": "good"}}}),
        ("quality", {"KID": {"graph": {"value": "low"}}}),
        ("graph_sensitivity", {"pixel_distance": {"graph_to_base_neutral": {"value": "far"}}}),
    ],
)
def test_what_the_answers_read_is_checked(
    evaluation: Evaluation, tmp_path: Path, key: str, value: Any
) -> None:
    results = changed(evaluation, lambda results: results.update({key: value}))
    (tmp_path / "evaluation_results.json").write_text(json.dumps(results))
    with pytest.raises(SgfluxError, match=key):
        read_results(tmp_path)


def test_each_predicate_stands_beside_the_base_told_the_graph_in_words(
    evaluation: Evaluation,
) -> None:
    told = evaluation.results["arms"]["base_relational"]["relation_accuracy"]["per_predicate"]
    rows = predicate_rows(evaluation)
    assert {row.name: row.told.value for row in rows} == {
        name: figure["value"] for name, figure in told.items()
    }
    page = render(evaluation, title="t")
    (table,) = re.findall(r'<table id="by_predicate">.*?</table>', page, flags=re.S)
    head, *lines = re.findall(r"<tr>.*?</tr>", table, flags=re.S)
    assert "base in words" in head
    for row, line in zip(rows, lines, strict=True):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", line, flags=re.S)
        assert len(cells) == head.count("<th")
        assert row.told.percent in cells[6], row.name
