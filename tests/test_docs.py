"""Pages can be found, links lead somewhere, and the pages name what the program really writes.

If one of these fails, a newcomer meets a README of figures, a dead link, a page that nothing leads
to, a folder that is not there, or a key of the results that no page explains.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from sgflux import __version__
from sgflux.bases.digests import CACHE_VARIABLE
from sgflux.cli import main
from sgflux.commands import COMMANDS
from sgflux.evaluation.records import RESULTS
from sgflux.files.folder_lock import hold_folder
from sgflux.terminal.printable import counted
from tests.helpers.evaluated import make_evaluation

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


LINES, NUMBERS = 150, 60
"""How long the README may be, and how many numbers it may state."""


def pages() -> list[Path]:
    folders = ("docs", "integrations", "findings", "benchmarks")
    top = sorted(ROOT.glob("*.md"))
    return [*top, *(page for folder in folders for page in sorted((ROOT / folder).rglob("*.md")))]


def numbers(text: str) -> list[str]:
    """The numbers that a reader meets outside of code blocks and of the targets of links.

    A number is a run of digits as long as it goes, with a point or comma between digits: 96.5,
    4,000 and the 1 of FLUX.1 are one number each, "91.5 to 98.9" are two.
    """
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    return re.findall(r"\d+(?:[.,]\d+)*", prose)


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


def test_numbers_are_counted_as_a_reader_meets_them() -> None:
    text = (
        "FLUX.1 has [19](page_2.md) blocks, 96.5 % (91.5 to 98.9)\n```\n--steps 8\n```\n4,000 `512`"
    )
    assert numbers(text) == ["1", "19", "96.5", "91.5", "98.9", "4,000", "512"]


def test_the_readme_is_short_and_has_few_numbers() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert len(numbers(text)) <= NUMBERS
    assert len(re.findall(r"!\[", text)) == 1, "one picture"


def test_the_readme_goes_on_in_the_order_in_which_a_newcomer_acts() -> None:
    text = re.sub(r"^```.*?^```", "", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert re.findall(r"^## (.+)$", text, flags=re.M) == [
        "Install",
        "Draw your own graph",
        "Run the demo and the tests",
        "Train on your own pictures",
        "Results",
        "Limits",
        "Where things are",
        "Where to go on",
    ]


def test_readme_leads_to_every_page() -> None:
    found, new = {README}, [README]
    while new:
        page = new.pop()
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in targets(page)}
        new += [other for other in linked - found if other.suffix == ".md"]
        found |= linked
    assert [page for page in pages() if page not in found] == []


def test_the_citation_names_this_version() -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {__version__}" in lines
    for key in ("cff-version", "message", "title", "authors"):
        assert any(line.startswith(f"{key}:") for line in lines), key


def test_the_annotated_tree_names_the_folders_that_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    tree = text.partition("```\nsrc/sgflux/\n")[2].partition("```")[0]
    named = re.findall(r"^  (\w+)/ ", tree, flags=re.M)
    there = [path.parent.name for path in (ROOT / "src" / "sgflux").glob("*/__init__.py")]
    assert sorted(named) == sorted([*there, "assets"])
    for line in re.findall(r"^  \w+/ .*$", tree, flags=re.M):
        room, *inner = re.findall(r"\b(\w+)/", line)
        for name in inner:
            assert (ROOT / "src" / "sgflux" / room / name).is_dir(), f"{room}/{name}"
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


def test_the_public_python_names_can_be_imported() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto(?:class|function):: (\S+)$", page, flags=re.M)
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(import_module(module), attribute).__doc__, name


def documented_commands() -> list[tuple[str, str]]:
    """(page, command line) of every ``sgflux`` command in a code block of a page."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines()
            commands = [line for line in lines if line.startswith(("sgflux ", "accelerate "))]
            found += [(page.name, command.partition("#")[0]) for command in commands]
    return found


@cache
def help_of(words: tuple[str, ...]) -> str:
    """What ``sgflux WORDS --help`` prints."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


@pytest.mark.parametrize(("page", "command"), documented_commands())
def test_documented_flags_exist(page: str, command: str) -> None:
    words = command[command.index("sgflux ") :].split()[1:]
    fitting = [c.words for c in COMMANDS if tuple(words[: len(c.words)]) == c.words]
    name = max(fitting, key=len)
    known = set(re.findall(r"--[a-z][\w.-]*", help_of(name)))
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags - known == set(), f"{page}: sgflux {' '.join(name)}"
