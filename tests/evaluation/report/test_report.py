"""The report: one page that needs nothing else and says what the figures say.

If one of these failed, the report would show other figures or pictures than the evaluation has,
or need files beside it.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import sgflux.evaluation.report
from sgflux.caveats import caveats
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.report.charts import LineChart, Series, smooth
from sgflux.evaluation.report.data import read_evaluation
from sgflux.evaluation.report.headline import Figure, footnotes, headline, print_headline
from sgflux.evaluation.report.page import TEMPLATES, Section, render, write_report
from sgflux.evaluation.report.panels import (
    CHOICES,
    changed_statement,
    contradicted_statement,
    embedded,
    panels,
)
from sgflux.evaluation.report.tables import PredicateRow, kind_table, traces
from tests.helpers.evaluated import forget_lines, make_evaluation

ROOT = Path(sgflux.evaluation.report.__file__).parent
VOID = {"meta", "img", "br", "link", "line", "rect", "path", "circle"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what the page refers to and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def missing(page: Page) -> set[str]:
    """What the script looks for and the page has not; the script would stop there."""
    script = (ROOT / "page.js").read_text(encoding="utf-8")
    wanted = re.findall(r'one\("#([\w-]+)(?: \w+)?"\)(\??)', script)
    assert len(wanted) > 5
    return {name for name, optional in wanted if not optional} - set(page.ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    metrics = folder.parent / "metrics.jsonl"
    extra = [Section("My own section", "Hello <you>", code="a < b")]
    path = write_report(folder, title="A <title>", metrics=metrics, extra_sections=extra)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(page: Page, folder: Path) -> None:
    assert page.references
    for reference in page.references:
        assert reference.startswith("data:image/") or reference.removeprefix("#") in page.ids
    assert not {"link", "iframe"} & set(page.tags)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert not re.search(r"url\(|@import|fetch\(|<script src", text)
    assert len(page.ids) == len(set(page.ids))
    assert not missing(page)


def test_a_reader_gets_answers_first_and_then_what_they_rest_on(page: Page) -> None:
    order = [
        "Does the adapter obey the graph?",
        "For which predicates?",
        "Against what?",
        "How sure are we?",
        "How good is the judge?",
        "What does it cost in quality?",
        "The arms against each other",
        "Base, neutral text",
        "Adapter, true graph",
        "How far the judge can be trusted",
        "By predicate",
        "What is drawn instead",
        "Every picture",
        "Judge accuracy",
        "Win rate, role swap",
        "Ranking accuracy",
        "Contradiction: follows the graph",
        "Pairs new to the adapter",
        "One statement, true graph g⁺",
        "Two statements, true graph g⁺",
        "Validation is on real pictures",
        "My own section",
        "How it was measured",
    ]
    place = 0
    for words in order:
        place = page.text.index(words, place)
    for words in ("A <title>", "Hello <you>", "a < b"):
        assert words in page.text  # escaped in the source


def test_the_page_says_what_the_results_say(page: Page, folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    macro = results["arms"]["graph"]["relation_accuracy"]["macro"]
    shown = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"Given the graph, {100 * macro:.1f} % (" in shown
    low, high = results["win_rate"]["ci95"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in shown
    assert "sgflux eval '<test>'" in shown
    assert results["data"]["sha256"][:16] in shown


def test_whole_graphs_stand_by_their_number_of_statements(folder: Path) -> None:
    results = read_evaluation(folder).results
    columns, rows = kind_table(results)
    assert columns[3] == "Adapter, true graph g⁺"
    assert columns[-1] == "Text contradicts: follows the graph"
    assert [name for name, _ in rows] == ["1 statement", "2 statements"]
    for (name, figures), size in zip(rows, "12", strict=True):
        arms, kind = results["arms"], results["graph_kinds"][name]
        assert figures[3] == Figure.of(arms["graph"]["all_triples_right"][size])
        assert figures[-1] == Figure.of(kind["contradiction"]["follows_graph"])


def test_the_headline_has_rows_of_their_own_for_twins(folder: Path) -> None:
    results = read_evaluation(folder).results
    assert not any("twins" in row.label for row in headline(results))
    kinds = {f"{name}, twins": kind for name, kind in results["graph_kinds"].items()}
    rows = {row.label: row for row in headline({**results, "graph_kinds": kinds})}
    two = results["graph_kinds"]["2 statements"]["arms"]
    for told, arm in (("true graph g⁺", "graph"), ("base in words", "base_relational")):
        row = rows[f"Two statements, twins, {told}"]
        assert row.figure == Figure.of(two[arm]["all_right"])
        assert row.group == "Pictures that show every statement of their item"


def test_every_predicate_has_its_panel_and_bar(page: Page, folder: Path) -> None:
    for predicate in ("above", "looking at", "around/near"):
        assert page.words.count(predicate) >= 2
    shown = panels(read_evaluation(folder))
    assert sum("first" in panel.choices for panel in shown) == 24
    assert page.tags.count("img") == len(shown) * 8, "a real picture and seven arms"
    overlays = len(shown) * 8
    assert page.tags.count("svg") == overlays + 2 + 1 + 4  # predicates twice, confusions, training


def test_items_are_chosen_by_rule_and_seed(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    shown = panels(evaluation)
    again = panels(evaluation)
    assert [(p.row, p.choices) for p in shown] == [(p.row, p.choices) for p in again]
    by_choice = {choice: [p for p in shown if choice in p.choices] for choice in CHOICES}
    assert {len(own) for choice, own in by_choice.items() if choice != "first"} == {6}
    assert all(panel.outcomes == ["holds"] for panel in by_choice["best"])
    assert all("holds" not in panel.outcomes for panel in by_choice["worst"])
    assert all(len(panel.statements) > 1 for panel in by_choice["several"])


def test_every_verdict_leads_to_its_file_seed_and_graph(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    table = traces(read_evaluation(folder))
    assert len(table["rows"]) == len(lines)
    for row, line in zip(table["rows"], lines, strict=True):
        cells = dict(zip(table["columns"], row, strict=True))
        assert (cells["seed"], cells["path"]) == (line["seed"], line["path"])
        assert (folder / cells["path"]).is_file()
        told = line["graph"]
        assert cells["told"].count(";") == (len(told["relationships"]) - 1 if told else 0)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert str(lines[-1]["seed"]) in page
    assert lines[-1]["path"] in page


def test_a_verdict_is_what_the_judge_read(folder: Path) -> None:
    """✓ and ✗ below the pictures add up to what the figures were computed from."""
    evaluation = read_evaluation(folder)
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        picture = evaluation.items[line["row"]][Arm(line["arm"])]
        said = [picture.said[triple] for triple in picture.statements]
        assert [one.relation for one in said] == line["verdict"]["read"]
        assert [one.holds for one in said] == line["verdict"]["right"]


def test_the_changed_and_the_contradicted_statement_are_found(folder: Path) -> None:
    for item in read_evaluation(folder).items.values():
        negative = item[Arm.NEGATIVE_GRAPH]
        assert changed_statement(negative) not in negative.statements
        contradiction = item[Arm.CONTRADICTION]
        stated = contradicted_statement(contradiction)
        assert stated in contradiction.statements
        words = f"{stated.subject} {stated.predicate} {stated.object}"
        assert words.replace("around/near", "near") not in contradiction.prompt


def test_marks_below_pictures_are_the_judges_verdicts(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    shown = Counter(
        mark.right
        for panel in panels(evaluation, each=1000)
        for picture in panel.pictures
        if picture.name in ("base", "base, told in words", "adapter, true graph")
        for mark in picture.marks
    )
    verdicts = Counter(
        item[arm].said[triple].holds
        for item in evaluation.items.values()
        for arm in (Arm.BASE_NEUTRAL, Arm.BASE_RELATIONAL, Arm.GRAPH)
        for triple in item[arm].statements
    )
    assert verdicts[True] > 0
    assert verdicts[False] > 0
    assert shown == verdicts


def test_contradiction_outcomes_agree_with_the_figures(folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    evaluation = read_evaluation(folder)
    shown = Counter(
        mark.follows for panel in panels(evaluation, each=1000) for mark in panel.pictures[-1].marks
    )
    for key, follows in (
        ("follows_graph", "graph"),
        ("follows_text", "text"),
        ("neither", "neither"),
    ):
        share = results["contradiction"][key]["value"]
        assert share > 0
        assert shown[follows] == round(share * len(evaluation.items))


def test_without_judge_metrics_and_real_pictures_the_rest_is_shown(
    tmp_path: Path, folder: Path
) -> None:
    copy = tmp_path / "evaluation"
    copy.mkdir()
    (copy / "pictures").symlink_to(folder / "pictures")
    results = json.loads((folder / "evaluation_results.json").read_text())
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    nothing = {"macro": None, "ci95": None, "n": 0, "per_predicate": {}}
    results["judge"] = {
        "name": "none", "accuracy": None, "ci95": None, "n": 0, "per_predicate": {},
        "note": "nobody has looked",
    }  # fmt: skip
    results["arms"] = {arm: {"relation_accuracy": nothing} for arm in results["arms"]}
    results |= {"win_rate": {"value": None}, "win_rate_by_kind": {}, "contradiction": None}
    results["settings"]["images_dir"] = str(tmp_path / "moved-away")
    del results["comparisons"], results["picture_results"]
    for line in lines:
        line |= {"judge": None, "verdict": None}
    (copy / "evaluation_results.json").write_text(json.dumps(results))
    (copy / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = Page(write_report(copy).read_text(encoding="utf-8"))
    assert "Nobody has looked." in page.text
    assert not missing(page)
    assert "Ranking accuracy" in page.text
    assert "not at hand" in page.text
    assert "Loss by training step" not in page.text
    assert "Not judged" in page.text
    assert "There is none" in page.text
    for mark in ("✓", "✗", "the judge reads", "Relation accuracy is", "Verdict with"):
        assert mark not in page.text, "nobody has judged"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("evaluation_results.json", None, "run 'sgflux eval' first"),
        ("evaluation_results.json", "{", "evaluation_results.json: is damaged: .*run the same"),
        ("results.jsonl", None, "results.jsonl is not there"),
        ("results.jsonl", "{}\n[]\n", r"results.jsonl:1: is damaged"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    tmp_path: Path, folder: Path, name: str, content: str | None, message: str
) -> None:
    for file in ("evaluation_results.json", "results.jsonl"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    forget_lines(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(SgfluxError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_large_pictures_become_small_ones(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (1024, 512), "teal").save(tmp_path / "photo.png")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "drawn.png")
    photo, drawn = embedded(tmp_path / "photo.png"), embedded(tmp_path / "drawn.png")
    assert photo.source.startswith("data:image/jpeg;base64,")
    assert drawn.source.startswith("data:image/png;base64,")
    assert (photo.is_small, drawn.is_small) == (False, True)
    assert (photo.width, photo.height) == (1024, 512), "boxes are in pixels of the file"
    assert len(photo.source) < 10_000


def test_headline_leaves_out_what_was_not_observed(folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    assert headline(results)[0].label == "Judge accuracy"
    del results["arms"]["null_graph"]
    results["contradiction"] = None
    labels = [row.label for row in headline(results)]
    assert "Adapter, no graph" not in labels
    assert not [label for label in labels if label.startswith("Contradiction")]
    console = Console(record=True, width=100, file=io.StringIO())
    print_headline(results, console=console)
    printed = console.export_text()
    assert printed.index("Judge accuracy") < printed.index("Adapter, true graph")


def test_a_figure_shows_its_interval_only_if_it_has_one() -> None:
    figure = Figure.of({"value": 0.7421, "ci95": [0.701, 0.78], "n": 12})
    assert (figure.percent.replace("\N{NO-BREAK SPACE}", " "), figure.interval) == (
        "74.2 %",
        "70.1 to 78.0",
    )
    assert Figure.of({"value": 0.5, "ci95": None, "n": 1}).interval == ""
    assert Figure.of(None).percent == Figure.of({"value": None}).percent == "–"


CHARTS: Any = TEMPLATES.get_template("charts.html.jinja").module


def test_bars_are_as_long_as_their_values() -> None:
    nothing = Figure(None)
    row = PredicateRow(
        "on <top>", Figure(0.5, 0.25, 0.75), Figure(1.0), Figure(0.25), *[nothing] * 3, True
    )
    chart = CHARTS.predicate_chart([row], [("g", "graph"), ("judge", "judge")], "t")
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', chart)]
    assert widths[0] == pytest.approx(widths[1] / 2, abs=0.1)
    (ring,) = re.findall(r'<circle class="found" cx="([\d.]+)"', chart)
    assert float(ring) - 112 == pytest.approx(widths[0] / 2, abs=0.1)
    assert "on &lt;top&gt;†" in chart
    assert chart.count("whisker") == 1
    assert "–" in chart


def test_lines_stay_inside_their_chart() -> None:
    points = [(0.0, 0.1), (50.0, 0.93), (100.0, -0.2)]
    chart = CHARTS.line_chart(LineChart("t", [Series("a", points, "graph", dots=True)], 0.5))
    _, _, width, height = (float(n) for n in re.findall(r'viewBox="([^"]+)"', chart)[0].split())
    for x, y in re.findall(r'<circle[^>]* cx="([\d.-]+)" cy="([\d.-]+)"', chart):
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= height
    assert "mark" in chart
    flat = LineChart("t", [Series("a", [(0.0, 0.0)], "graph")], percent=True)
    assert "nan" not in CHARTS.line_chart(flat)
    tiny = LineChart("t", [Series("a", [(0.0, 5e-324)], "graph")])
    assert "nan" not in CHARTS.line_chart(tiny), "the smallest number has a scale, too"


def test_smoothing_is_a_mean_of_neighbours() -> None:
    points = [(0.0, 0.0), (1.0, 3.0), (2.0, 6.0)]
    assert smooth(points, window=3) == [(0.0, 1.5), (1.0, 3.0), (2.0, 4.5)]
    assert smooth(points, window=1) == points


def test_results_of_earlier_versions_are_shown_alike(folder: Path, tmp_path: Path) -> None:
    """They have the judge's scores and no verdicts; their report would have lost its marks."""
    old = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    forget_lines(old)
    lines = [json.loads(line) for line in (old / "results.jsonl").read_text().splitlines()]
    for line in lines:
        del line["verdict"]["verdicts"]
    (old / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    now, before = read_evaluation(folder), read_evaluation(old)
    for row, item in before.items.items():
        for arm, picture in item.items():
            shown = {t: now.items[row][arm].said[t] for t in picture.said}
            assert picture.said == shown
            assert set(picture.statements) <= set(shown)


def test_a_picture_that_was_exchanged_after_judging_is_not_shown(
    folder: Path, tmp_path: Path
) -> None:
    from PIL import Image

    changed = Path(shutil.copytree(folder, tmp_path / "evaluation"))
    for path in (changed / "pictures" / "graph").iterdir():
        Image.new("RGB", (64, 64), "teal").save(path)
    with pytest.raises(SgfluxError, match=r"graph/.*\.png has changed since it was judged"):
        write_report(changed)


def test_another_base_and_seen_test_data_stand_below_the_headline(folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    assert not caveats(results)
    results["adapter"]["fingerprint"] = "0" * 64
    results["model"]["base_check"] = {"status": "other", "text": "another base: vae differs"}
    seen = {"checked": True, "text": "3 of its pictures are of the training data"}
    results["data"]["overlap"] = {**seen, "training": {"rows": 0, "pictures": 3}}
    notes = footnotes(results)
    assert "Another base: vae differs." in notes
    assert any("3 of its pictures are of the training data" in note for note in notes)
    results["model"].pop("base_check")
    assert any("Base not verified" in note for note in footnotes(results))


def test_the_record_names_stochastic_sampling(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    assert "stochastic sampling" not in render(evaluation, title="t")
    drawn = {**evaluation.results["settings"], "stochastic_sampling": True}
    results = {**evaluation.results, "settings": drawn}
    assert "graph scale 1, stochastic sampling" in render(
        replace(evaluation, results=results), title="t"
    )
