"""The mutants' list follows the code, and its tool tells a killed mutant from a living one.

If one of these failed, the list of mutants would test nothing, because its lines are no longer in
the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mutants
import pytest
from mutants import ALIVE, GONE, KILLED, ROOT, UNUSABLE, Mutant, judge, read_list


def test_every_mutant_applies_to_the_code_as_it_is() -> None:
    """One whose line has moved on tests nothing: bring benchmarks/mutants.toml up to date."""
    listed = read_list()
    assert len(listed) >= 60
    assert [one.id for one in listed if not one.applies(ROOT)] == []


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "double.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_double.py").write_text(
        "from double import double\n\n\ndef test_two():\n    assert double(2) == 4\n"
    )
    (tmp_path / "test_broken.py").write_text("def test_nothing():\n    assert False\n")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    yield tmp_path
    assert (tmp_path / "src" / "double.py").read_text() == "def double(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("old", "new", "test", "outcome"),
    [
        ("2 * x", "3 * x", "test_double.py", KILLED),
        ("2 * x", "x * x", "test_double.py::test_two", ALIVE),
        ("4 * x", "3 * x", "test_double.py", GONE),
        ("2 * x", "3 * x", "test_broken.py", UNUSABLE),
    ],
)
def test_a_mutant_is_killed_only_by_a_test_that_passes_without_it(
    root: Path, old: str, new: str, test: str, outcome: str
) -> None:
    one = Mutant(id="X", what="", file="src/double.py", old=old, new=new, tests=(test,))
    assert judge(one, root, healthy={}) == outcome
