"""Docstrings are sentences: what an argument is, is understood without the line above it.

Broken, stubs like "seed: of the noise" come back, which say nothing to somebody who reads one line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "sgflux"
MODULES = sorted(TESTS.rglob("test_*.py"))

PREPOSITIONS = frozenset(
    "about above after as at before below between by for from in inside into like of on per than "
    "through to under upon with within without".split()
)
POINTERS = frozenset({"see", "its", "their"})
"""Words that make a line depend on another place: "see :func:`f`", "its name"."""
QUESTIONS = frozenset({"how", "what", "where", "which", "who"})
"""Words that ask what the argument is and do not say it: "path: where it is"."""


def stubs(source: str) -> Iterator[tuple[int, str]]:
    """(line of the documented thing, documentation) of the arguments that are no statements."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_argument = False
        for line in (ast.get_docstring(node) or "").split("\n"):
            if line and not line.startswith(" "):
                is_argument = line in ("Args:", "Attributes:")
            entry = re.match(r" {4}([*\w`, /]+): +(\w+)", line)
            if is_argument and entry and entry[2].lower() in PREPOSITIONS | POINTERS | QUESTIONS:
                yield node.lineno, line.strip()


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in (PACKAGE, ROOT / "integrations", ROOT / "benchmarks", ROOT / "scripts")
        for path in sorted(folder.rglob("*.py"))
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_arguments_are_described_by_statements(path: Path) -> None:
    found = list(stubs(path.read_text(encoding="utf-8")))
    assert not found, f"{path}: begin with a noun, like 'Number of examples'"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_module_of_tests_says_what_would_be_broken(path: Path) -> None:
    """A test that nobody knows the purpose of is changed until it passes."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.search(r"\bBroken, |\bIf one of these|\bwould\b", text), text


def test_a_stub_is_found() -> None:
    """Only where arguments are described, and only at the beginning of their description."""
    source = '''
def draw(seed, size, share, path):
    """Draw a picture.

    Args:
        seed: of the noise.
        size: Height and width
            in: pixels.
        share, path: see :func:`other`.
        table: what a reader found.

    Raises:
        ValueError: on a bad size.
    """
'''
    assert list(stubs(source)) == [
        (2, "seed: of the noise."),
        (2, "share, path: see :func:`other`."),
        (2, "table: what a reader found."),
    ]
