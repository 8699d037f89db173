"""What pip, make and continuous integration take from the project's own files agrees.

If one of these failed, an installation from the package would lack files, or install other
versions than the documentation says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sgflux.bases.families import family_of
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import BUNDLED_ADAPTER, find_bundle, read_drawing
from sgflux.models.hub import base_of
from sgflux.settings.model_source import ModelSource

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = [(3, 11), (3, 12), (3, 13), (3, 14)]


def make(*arguments: str) -> str:
    """What make would run, or says."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    # The tests may run within a `make test TORCH=...`, whose variables a make inside would inherit.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "TORCH", "TORCH_FLAGS")
    done = subprocess.run(
        ["make", "-n", "VENV=no-such-folder", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in inherited},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_same_versions_of_python_are_supported_everywhere() -> None:
    named = {f"{major}.{minor}" for major, minor in PYTHONS}
    classifiers = PROJECT["project"]["classifiers"]
    prefix = "Programming Language :: Python :: 3."
    assert {c.rpartition(" ")[2] for c in classifiers if c.startswith(prefix)} == named
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (code,) = re.findall(r"^SUPPORTED := (.+)$", makefile, re.MULTILINE)
    for version in [(3, 10), *PYTHONS, (3, 15)]:
        asked = code.replace("sys.version_info[:2]", repr(version))
        done = subprocess.run([sys.executable, "-c", asked], check=False)
        assert (done.returncode == 0) == (version in PYTHONS), version
    assert all(f"python{name}" in makefile for name in named)


def test_pip_never_downgrades_torch() -> None:
    """An upper limit would take a newer one away from whoever has it."""
    (torch,) = (d for d in PROJECT["project"]["dependencies"] if d.startswith("torch>"))
    assert torch == "torch>=2.8"
    (transformers,) = (d for d in PROJECT["project"]["dependencies"] if "transformers" in d)
    assert transformers == "transformers>=5.23,<6"


def test_each_dependency_is_listed_once() -> None:
    """Of two entries, scripts/test_matrix.sh tries one, and a change of one leaves the other."""
    names = [re.split(r"[^\w-]", entry)[0] for entry in PROJECT["project"]["dependencies"]]
    assert len(names) == len(set(names))


def test_make_takes_pips_choice_of_torch_unless_it_is_told_one() -> None:
    assert 'install --quiet "torch>=2.8" \n' in make("lint")
    assert 'install --quiet "torch==2.9.1" --index-url X\n' in make(
        "lint", "TORCH=2.9.1", "TORCH_FLAGS=--index-url X"
    )


def test_make_shares_the_tests_among_processes_unless_it_is_told_otherwise() -> None:
    said = make("test", "ARGS=-n 0 tests/graphs")
    assert re.search(r'pytest -n logical .*-m "not slow" -n 0 tests/graphs$', said, re.MULTILINE)


def test_continuous_integration_names_its_own_build_of_torch() -> None:
    """Else a new release of torch would change what is tested, or fetch gigabytes of CUDA."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^exec make test TORCH=2\.\d+\.\d+$", script, re.MULTILINE)


def test_an_sdist_holds_what_its_tests_read() -> None:
    include = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    made = {"build", "dist", "runs", "data", "shared", "site"}
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_")) and path.name not in made
    }
    assert {f"/{name}" for name in folders} <= set(include)
    assert {"/.ci", "/Makefile"} <= set(include)


def test_links_of_the_project_are_within_what_an_index_takes() -> None:
    urls = PROJECT["project"]["urls"]
    assert urls
    for label, address in urls.items():
        assert len(label) <= 32  # the limit of the metadata's standard
        assert address.startswith("https://")


def test_make_docs_installs_what_it_needs_and_is_strict() -> None:
    said = make("docs")
    assert "install --quiet --editable '.[docs]'" in said
    assert re.search(r"-m sphinx -W .*-c docs \. build/site$", said, re.MULTILINE)


def test_the_bundled_adapter_is_small_and_of_the_bundled_base() -> None:
    folder = find_bundle(BUNDLED_ADAPTER, allow_download=False)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * 1024 * 1024
    # Nothing that unpickles or runs: pipeline.py is for adapters on the hub.
    allowed = {".safetensors", ".json", ".md", ".png", ".webp"}
    assert {path.suffix for path in files} <= allowed
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = folder.relative_to(ROOT / "src" / "sgflux").as_posix()
    assert "src/sgflux/assets/**" in build["artifacts"]
    assert inside.startswith("assets/")
    # A reader of the model card would look for it.
    assert "pipeline.py" not in (folder / "README.md").read_text(encoding="utf-8")
    config, _ = load_bundle(folder)  # compares all files with their digests
    assert base_of(folder) == ("tiny", None)
    source = ModelSource(model_id="tiny")
    assert config.base_identity == family_of(source).identity(source)
    assert None not in (read_drawing(folder).steps, read_drawing(folder).graph_scale)
