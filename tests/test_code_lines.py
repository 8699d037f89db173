"""The count of lines that the size of the package is judged by, and the comparison of records.

If one of these failed, the size of the package would be counted differently from one day to the
next.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = '''"""Documentation
of a module."""

import os  # a comment beside code


# a comment
def f(x):
    """Documentation."""
    text = """a string

    in the middle"""
    return (
        x,
        text,
    )


VALUE = 1
"""What it is."""
'''


def test_blanks_comments_and_documentation_do_not_count(tmp_path: Path) -> None:
    """Broken, a docstring would count against the code, or a long call as one line."""
    code_lines = load(ROOT / "scripts" / "code_lines.py")
    assert code_lines.code_lines(MODULE) == 1 + 1 + 3 + 4 + 1
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text(MODULE)
    (tmp_path / "b.py").write_text("x = 1\n")
    assert code_lines.count(tmp_path) == {"room": 10, ".": 1}


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"a": {"x": 1, "y": [1, 2]}, "b": "0f"}, []),
        ({"a": {"x": 1, "y": [1, 3]}, "b": "0f"}, ["changed: a > y > 1: 2 -> 3"]),
        ({"a": {"x": 1}, "b": "0f"}, ["missing: a > y"]),
        ({"a": {"x": 1, "y": [1, 2]}}, ["missing: b"]),
        ({"a": {"x": 1, "y": [1, 2]}, "b": "0f", "c": 1}, ["new: c"]),
    ],
)
def test_a_record_that_differs_is_found(after: dict[str, object], expected: list[str]) -> None:
    """Broken, a change of the arithmetic would pass as none."""
    recorded_run = load(ROOT / "benchmarks" / "recorded_run.py")
    before = {"a": {"x": 1, "y": [1, 2]}, "b": "0f"}
    assert recorded_run.compare(before, after) == expected


def test_one_bit_of_a_tensor_changes_its_digest() -> None:
    """Broken, weights that differ would have equal records."""
    recorded_run = load(ROOT / "benchmarks" / "recorded_run.py")
    import torch

    one = torch.ones(3)
    other = one.clone()
    other[1] = torch.nextafter(other[1], torch.tensor(2.0))
    digest = recorded_run.tensor_digest
    assert digest(one) == digest(torch.ones(3)) != digest(other)
    assert digest(one) != digest(one[None])
    assert digest(one) != digest(one.double())
