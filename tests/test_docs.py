"""Pages can be found, links lead somewhere, and the pages name what the program really writes.

If one of these fails, a reader of README meets a dead link, a page that nothing leads to, a folder
that is not there, or a key of the results that no page explains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgflux.evaluation.evaluator import RESULTS
from sgflux.files.folder_lock import hold_folder
from sgflux.models.digests import CACHE_VARIABLE
from sgflux.terminal.printable import counted
from tests.helpers.evaluated import make_evaluation

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def pages() -> list[Path]:
    folders = ("docs", "integrations", "findings", "benchmarks")
    return [README, *(page for folder in folders for page in sorted((ROOT / folder).rglob("*.md")))]


def targets(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    for target in targets(page):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in targets(README)}
    missing = [page for page in pages() if page not in linked and page != README]
    assert [page for page in missing if "results" not in page.parts] == []


def test_the_annotated_tree_names_the_folders_that_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    tree = text.partition("```\nsrc/sgflux/\n")[2].partition("```")[0]
    named = re.findall(r"^  (\w+)/ ", tree, flags=re.M)
    there = [path.parent.name for path in (ROOT / "src" / "sgflux").glob("*/__init__.py")]
    assert sorted(named) == sorted([*there, "assets"])
    for name in re.findall(r"\b\w+\.py\b", tree):
        found = list((ROOT / "src" / "sgflux").rglob(name))
        assert found, name


def test_every_key_of_the_results_is_explained(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    folder = make_evaluation(tmp_path / "evaluation")
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    arms = {key for arm in results["arms"].values() for key in arm} - {"prompt", "pictures"}
    for key in {*results, *arms, *results["arms"], "false_acceptance", "pixels_sha256", "overlap"}:
        if key != "arms":
            assert f"`{key}`" in page, key
    assert "`arms.ARM`" in page


def test_locks_and_caches_are_explained(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    with hold_folder(tmp_path, command="sgflux train"):
        for path in tmp_path.iterdir():
            assert f"`{path.name}`" in page
    assert CACHE_VARIABLE in page


def test_findings_are_listed() -> None:
    page = (ROOT / "findings" / "README.md").read_text(encoding="utf-8")
    for script in (ROOT / "findings").glob("*.sh"):
        assert f"]({script.name})" in page


def test_one_is_singular() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 1200)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,200 rows",
    ]
