"""The report's filters in a real browser.

If one of these failed, the table of pictures would show other items than those that were asked for.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.judges.judge import Outcome
from sgflux.evaluation.report.data import Evaluation, Picture, read_evaluation
from sgflux.evaluation.report.page import render
from tests.helpers.evaluated import make_evaluation

playwright = pytest.importorskip("playwright.sync_api")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
SHOWN = 60_000  # milliseconds until the page must show something, on a busy machine


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """An evaluation of two noises an item, whose second one nothing holds under."""
    first = read_evaluation(make_evaluation(tmp_path_factory.mktemp("filters")))
    return replace(first, pictures=[*first.pictures, *map(_refused, first.pictures)])


def _refused(picture: Picture) -> Picture:
    said = {
        triple: replace(one, outcome=Outcome.CONTRADICTED) for triple, one in picture.said.items()
    }
    return replace(picture, repeat=1, said=said)


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(evaluation, title="t"), encoding="utf-8")
    with playwright.sync_playwright() as started:
        # Debian's browser cannot make its sandbox as root, as in a container.
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(SHOWN)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert not errors


def lines(page: Any) -> set[tuple[int, str, int]]:
    """Item, arm and noise of all lines of the table."""
    while page.locator("#more").is_visible():
        page.locator("#more").click()
    cells = page.eval_on_selector_all(
        "#every tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return {(int(row), arm, int(noise)) for row, arm, noise, *_ in cells}


def wanted(evaluation: Evaluation, verdict: str, predicate: str = "") -> set[tuple[int, str, int]]:
    """The same of all arms of the items that have a verdict with the true graph."""
    having = {
        (one.row, one.repeat)
        for one in evaluation.pictures
        if one.arm is Arm.GRAPH and verdict in {str(said.outcome) for said in one.own.values()}
        if not predicate or predicate in one.predicates
    }
    return {
        (one.row, str(one.arm), one.repeat)
        for one in evaluation.pictures
        if (one.row, one.repeat) in having
    }


@pytest.mark.parametrize("verdict", ["holds", "contradicted"])
def test_the_verdict_with_the_true_graph_chooses_all_arms_of_an_item(
    page: Any, evaluation: Evaluation, verdict: str
) -> None:
    page.locator("[name=verdict]").select_option(verdict)
    expected = wanted(evaluation, verdict)
    assert 0 < len(expected) < len(evaluation.pictures)
    assert lines(page) == expected
    said = page.locator("#count").text_content()
    assert f"{len(expected)} of {len(evaluation.pictures)} pictures in the table" in said
    # The panels show the same items of the first noise.
    shown = page.eval_on_selector_all(
        ".panel:not([hidden]) .trace", "all => all.map(one => one.textContent)"
    )
    first = {row for row, _, noise in expected if noise == 0}
    found = re.findall(r"item (\d+)", " ".join(shown))
    assert found
    assert {int(row) for row in found} <= first
    predicate = "above"
    page.locator("[name=predicate]").select_option(predicate)
    assert lines(page) == wanted(evaluation, verdict, predicate)
    page.locator("[name=predicate]").select_option("")
