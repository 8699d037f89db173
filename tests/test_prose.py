"""Docstrings and help lines are sentences: each is understood without the line above it.

Broken, stubs like "seed: of the noise" come back, which say nothing to somebody who reads one line.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgflux.commands import COMMANDS, Command

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


@pytest.mark.parametrize("folder", ["src", "docs", "benchmarks", "integrations"])
def test_a_negative_graph_is_called_so(folder: str) -> None:
    """Only the glossary and the class that it describes say that it is a false graph."""
    where = {Path("docs/glossary.md"), Path("src/sgflux/graphs/negatives.py")}
    found = [
        f"{path}: {match[0]}"
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".jinja", ".js", ".toml")
        and path.relative_to(ROOT) not in where
        for match in re.finditer(r"(?i)\b(?:corrupted|false) graphs?\b", path.read_text("utf-8"))
    ]
    assert not found


# --- --help -------------------------------------------------------------------------------------

COUNTS = ("Number of", "Numbers of", "Height", "Width", "Index", "Indices", "Rank", "Random seed")
"""Beginnings of a line about whole numbers, beside a condition: "With --flag: ..."."""
CONDITION = re.compile(r"With --[\w.-]+(?: \w+)?(?: or --[\w.-]+)*: (?=\w)")
RIDDLE = re.compile(r"\b(?:None|[Ee]lse|off|\d+): ")
"""A value and what it means, without a verb: "0: all"."""
OTHER_LINE = re.compile(
    r"\b(?:the former|the latter|above|below|then grows|that (?:weight|training|file|one))\b"
)
SETTING = re.compile(r"(?<![\w.'/-])[a-z]+(?:_[a-z\d]+)+(?!\w|\.\w|')")
"""A name with underscores that is neither a quoted value nor a file."""
BELOW_TITLE = re.compile(r" -{20,}")
FLAG = re.compile(r"(?<![\w'-])--([a-z][\w.-]*)")


def faults(text: str, *, known: set[str], counts: bool = False) -> list[str]:
    """What is wrong with a help line, as far as it can be recognised mechanically.

    Args:
        text: The line, without its default.
        known: Flags of the command.
        counts: Whether the flag takes whole numbers.
    """
    said = CONDITION.sub("", text, count=1)
    first = re.split(r"\W", said.lower(), maxsplit=1)[0]
    starts = CONDITION.match(text) or text.startswith(COUNTS)
    found = {
        "begins like a part of a sentence": first in PREPOSITIONS | POINTERS | QUESTIONS,
        "does not begin with a capital letter": not text[:1].isupper(),
        "does not end with a full stop": not text.endswith("."),
        "says a value and no verb": RIDDLE.search(text),
        "points to another line": OTHER_LINE.search(text),
        "names a setting and not its flag": SETTING.search(text),
        "names a flag that there is not": any(
            name.rstrip(".") not in known for name in FLAG.findall(text)
        ),
        "does not say what is counted": counts and not starts,
    }
    return [fault for fault, is_found in found.items() if is_found]


def help_of(command: Command, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the command's ``--help``; a row of dashes stands below the title of a box."""
    with pytest.raises(SystemExit):
        command.run(command, ["--help"])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_line_of_help_is_understood_alone(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = help_of(command, capsys)
    shown = shown[next(number for number, line in enumerate(shown) if BELOW_TITLE.match(line)) :]
    entries: list[list[str]] = []  # a flag with its values, and its text
    for line in shown:
        if re.match(r"  (?:--?[a-z]|FILE)", line):
            entries.append([*re.split(r"\s{2,}", line.strip(), maxsplit=1), ""][:2])
        elif line.startswith("    ") and entries:
            entries[-1][1] += f" {line.strip()}"
    known = {name for flag, _ in entries for name in FLAG.findall(flag)}
    assert "help" in known
    found = {}
    for flag, text in entries:
        if flag != "-h, --help":  # whose text is tyro's
            alone = re.sub(r" \((?:required|default: .*)\)$", "", text.strip())
            found[flag] = faults(alone, known=known, counts="INT" in flag)
    assert not {flag: faulty for flag, faulty in found.items() if faulty}


@pytest.mark.parametrize(
    ("name", "said", "not_said"),
    [
        ("page", "sgflux. By default it is 'tiny'.", "used alone"),
        ("page", "the base that the chosen adapter names, or 'tiny' without", "FLUX.1-schnell"),
        ("sample", "the base that --adapter names, or else FLUX.1-schnell", "begins with"),
        ("sample", "By default the base model is used alone", "begins with"),
        ("train", "By default it is FLUX.1-schnell", "adapter names"),
    ],
)
def test_a_flag_of_several_commands_has_the_default_of_its_own_command(
    name: str, said: str, not_said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A default of another command's would be a promise that this one does not keep."""
    (command,) = (command for command in COMMANDS if command.words == (name,))
    text = " ".join(" ".join(help_of(command, capsys)).replace("│", "").split())
    assert said in text
    assert not_said not in text


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_help_fits_the_terminal_and_its_boxes_are_named_in_words(
    command: Command,
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _usage, *shown = help_of(command, capsys)
    titles = {line.strip() for line, below in itertools.pairwise(shown) if BELOW_TITLE.match(below)}
    assert "options" in titles
    own = {"options", "positional arguments"}
    assert all(re.fullmatch(r"[A-Z][A-Za-z ]+ options", title) for title in titles - own), titles
    assert max(map(len, shown)) <= columns


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Of all random numbers.", "part of a sentence"),
        ("How a photo is brought to a size.", "part of a sentence"),
        ("a number of steps.", "capital letter"),
        ("Number of steps", "full stop"),
        ("Number of examples; 0: all.", "no verb"),
        ("Number of steps; None: the model's own.", "no verb"),
        ("Number of steps in which that weight grows.", "another line"),
        ("Number of steps, instead of max_steps.", "not its flag"),
        ("Number of steps, instead of --max-stops.", "there is not"),
        ("Steps between two validations.", "what is counted"),
    ],
)
def test_a_fault_of_a_help_line_is_found(text: str, fault: str) -> None:
    (found,) = faults(text, known={"max-steps"}, counts=fault == "what is counted")
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "Number of steps, given instead of --max-steps. 'val_loss' is read from a_file.json.",
        "With --max-steps: recompute only every n-th block; 1 recomputes all.",
    ],
)
def test_a_plain_help_line_has_no_fault(text: str) -> None:
    assert not faults(text, known={"max-steps"}, counts=True)
