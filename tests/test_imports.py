"""The walls of the house: who imports whom, read from the source.

Broken, these would let a lower room depend on a higher one, and neither could be tested or reused
without the other any more.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "sgflux"

FLOORS = (
    {"errors", "versions"},
    {"files.reading", "files.writing", "terminal.printable", "terminal.output"},
    {"files.leftovers", "files.weights_header"},
    {"files", "terminal"},
    {"settings", "caveats"},
    {"graphs", "flow_matching", "intervals"},
    {"data", "bases"},
    {"world"},
    {"models"},
    {"preflight"},
    {"sampling"},
    {"publishing", "assets"},
    {"exporting"},
    {"training", "evaluation"},
    {"training.run"},
    {"world.tiny_flux"},
    {"world.demo", "doctor", "web"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
"""From the ground up. A dotted room is a part of another room that stands on a floor of its own."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

READERS_OF_CONFIG = {
    "sgflux.settings.training": ("training.run",),
    "sgflux.settings.evaluation": ("evaluation.evaluator", "world.demo"),
    "sgflux.settings.exporting": (),
}
"""Whole configuration of a command -> who reads it beside settings and commands.

Everybody else takes the one group of settings, or the plain arguments, that is read.
"""

DISTRIBUTIONS = {"PIL": "pillow"}
"""Modules whose distribution has another name."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, root: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything imported anywhere in the file."""
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    package = ".".join(parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            module = resolve_name(name, package) if node.level else name
            for alias in node.names:
                # "from sgflux import config" names a room in the second half.
                yield node.lineno, f"{module}.{alias.name}" if module == root.name else module


def room_at(parts: tuple[str, ...]) -> str:
    """The innermost room of a module, whose dotted name within the package is given in parts."""
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOOR:
            return ".".join(parts[:length])
    return parts[0]


def room_of(path: Path, *, root: Path = PACKAGE) -> str:
    return room_at(path.relative_to(root).with_suffix("").parts)


def violations(path: Path, *, root: Path = PACKAGE) -> list[str]:
    """What the file imports though it may not."""
    room = room_of(path, root=root)
    module = ".".join(path.relative_to(root).with_suffix("").parts)
    found = []
    for line, name in imports(path, root=root):
        package, *parts = name.split(".")
        target = room_at(tuple(parts)) if parts else ""
        if package != root.name or target not in FLOOR:
            continue  # the package itself says its version to everybody
        if target != room and FLOOR[target] >= FLOOR[room]:
            found.append(f"{path.name}:{line}: {room} imports {name}, which is not below it")
        readers = ("settings", "commands", *READERS_OF_CONFIG.get(name, (module,)))
        if not any(f"{module}.".startswith(f"{reader}.") for reader in readers):
            found.append(f"{path.name}:{line}: {room} reads {name}; take a group")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not list(imports(path)), "importing the package must cost nothing"
        return
    assert room_of(path) in FLOOR, f"{path} is in no known room: add it to FLOORS"
    assert not violations(path)


@pytest.mark.parametrize(
    ("room", "line", "expected"),
    [
        ("bases", "from sgflux.data.images import load_image", "bases imports sgflux.data.images"),
        ("data", "import sgflux.bases.flux1.load", "data imports sgflux.bases.flux1.load"),
        ("training", "from sgflux.evaluation import judges", "training imports sgflux.evaluation"),
        ("models", "from ..sampling import pipeline", "models imports sgflux.sampling"),
        (
            "models",
            "from sgflux.settings.training import TrainConfig",
            "models reads sgflux.settings.training",
        ),
        (
            "exporting",
            "from sgflux.settings.exporting import ExportConfig",
            "exporting reads sgflux.settings.exporting",
        ),
        ("world", "import sgflux.world.demo", "world imports sgflux.world.demo"),
        ("graphs", "def f():\n    import sgflux.flow_matching", "graphs imports sgflux.flow"),
    ],
)
def test_an_upward_edge_is_found(tmp_path: Path, room: str, line: str, expected: str) -> None:
    path = tmp_path / "sgflux" / room / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    (found,) = violations(path, root=tmp_path / "sgflux")
    assert expected in found


FAMILY = "sgflux.bases.flux1"
MAKES_A_FLUX = {"bases", "world.tiny_flux"}
"""Every other room asks the family; a published pipeline runs without sgflux."""


def names_of_a_family(path: Path, *, root: Path = PACKAGE) -> list[str]:
    """What the file names of FLUX.1: modules of its family, and classes of diffusers."""
    found = [name for _, name in imports(path, root=root) if name.startswith(FAMILY)]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffusers"):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").endswith("bases"):
            found += [f"sgflux.bases.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if node.value.id == "diffusers" else []
    return [name for name in found if name.startswith((FAMILY, "Flux", "AutoencoderKL"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_its_own_rooms_name_a_family(path: Path) -> None:
    if room_of(path) not in MAKES_A_FLUX and path != PACKAGE / "assets/published/pipeline.py":
        assert not names_of_a_family(path), "ask the family, see sgflux.bases.families"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from sgflux.bases.flux1.load import load_transformer", "sgflux.bases.flux1.load"),
        ("def f():\n    from sgflux.bases import flux1", "sgflux.bases.flux1"),
        ("from ..bases.flux1 import text", "sgflux.bases.flux1"),
        ("from diffusers import FluxPipeline as P", "FluxPipeline"),
        ("import diffusers\nmake = diffusers.FluxTransformer2DModel", "FluxTransformer2DModel"),
    ],
)
def test_a_named_family_is_found(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "sgflux" / "models" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert names_of_a_family(path, root=tmp_path / "sgflux") == [expected]


def test_below_the_run_of_an_evaluation_nobody_sees_its_whole_configuration() -> None:
    """What a function reads stands in its signature."""
    source = (PACKAGE / "evaluation" / "evaluator.py").read_text(encoding="utf-8")
    takers = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        for argument in (*node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None and ast.unparse(argument.annotation) == "EvalConfig"
    }
    assert takers == {"evaluate"}


def test_settings_and_the_command_line_wait_for_no_heavy_library() -> None:
    """What ``--help`` and an error about a flag read is imported at once, all else when it runs."""
    light = set(sys.stdlib_module_names) | {"sgflux", "tyro"}
    files = list((PACKAGE / "settings").rglob("*.py"))
    foreign = {
        f"{path.name}:{line}: {name}"
        for path in files
        for line, name in imports(path)
        if name.split(".")[0] not in light
    }
    assert not foreign


def test_graphs_need_only_the_standard_library() -> None:
    foreign = {
        name
        for path in (PACKAGE / "graphs").rglob("*.py")
        for _, name in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names | {"sgflux"}
    }
    assert not foreign


TESTS = ROOT / "tests"


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda p: str(p.relative_to(TESTS))
)
def test_tests_share_only_their_helpers(path: Path) -> None:
    """A test that imports from another one breaks as soon as that one moves."""
    own = {"tests", "conftest"} | {module.stem for module in TESTS.rglob("test_*.py")}
    foreign = [
        f"{path.name}:{line}: {name}"
        for line, name in imports(path, root=TESTS)
        if name.split(".")[0] in own and name.split(".")[:2] != ["tests", "helpers"]
    ]
    assert not foreign, "put what several tests need into tests/helpers"


def test_what_is_imported_is_declared() -> None:
    """A fresh installation has every library that the package imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [entry for extra in project["optional-dependencies"].values() for entry in extra]
    entries = [*project["dependencies"], *extras]
    declared = {re.split(r"[<>=!~\[ ]", entry)[0] for entry in entries}
    imported = {name.split(".")[0] for path in MODULES for _, name in imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - {"sgflux"}
    assert {DISTRIBUTIONS.get(name, name) for name in third_party} <= declared
