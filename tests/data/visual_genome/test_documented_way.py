"""The documented commands, word for word, lead from a release on disk to a training run.

If one of these failed, somebody who copies the commands of the documentation would not get a data
set.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from sgflux.cli import main
from tests.helpers.rows import write_picture
from tests.helpers.visual_genome import SIZE, H5Image, Release, write_h5, write_vocab

ROOT = Path(__file__).parents[3]
DOCUMENT = "docs/visual_genome.md"
SMALL = "--predicates riding on --train-per-class 2 --val-per-class 1 --test-per-class 1"
WHOLE, TINY = "flux_schnell", "tiny_photos"
"""Configuration of the commands, and the one that the document names for a try without FLUX."""


def documented_commands(document: str) -> list[list[str]]:
    """Every ``sgflux`` command of the code blocks in which ``sgflux data vg`` occurs."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = [block for block in blocks if "sgflux data vg" in block]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [expanded(line) for line in lines if line.startswith("sgflux ")]


def expanded(line: str) -> list[str]:
    """The arguments of a command line, "a_{b,c}.d" as the shell expands it."""
    arguments: list[str] = []
    for word in shlex.split(line)[1:]:
        found = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
        parts = found[2].split(",") if found else [""]
        arguments += [f"{found[1]}{part}{found[3]}" for part in parts] if found else [word]
    return arguments


def write_raw_form(root: Path) -> None:
    release = Release(root)
    for number in range(6):
        for word in ("riding", "on top of"):
            release.simple(f"man{number}, {word}, horse{number}")
    release.write()


def write_h5_form(root: Path) -> None:
    things = [("man", (0, 0, 40, 40)), ("horse", (20, 10, 50, 40))]
    for start, split in ((0, "train"), (8, "val"), (16, "test")):
        images = [
            H5Image(f"VG_100K/{number}.png", things, [(0, ("riding", "on top of")[number % 2], 1)])
            for number in range(start, start + 8)
        ]
        for image in images:
            number = int(Path(image.path).stem)
            write_picture(root / image.path, size=SIZE, seed=number)
        write_h5(root.parent / f"{split}.h5", images)
    write_vocab(root.parent / "vocab.json")


@pytest.mark.parametrize("form", ["raw", "h5"])
def test_the_documented_commands_lead_to_a_training_run(form, tmp_path, monkeypatch, capsys):
    commands = documented_commands(DOCUMENT)
    first, *_ = [c for c in commands if c[:2] == ["data", "vg"] and f"--{form}" in c]
    (check,) = [c for c in commands if c[:2] == ["data", "check"]]
    (cache,) = [c for c in commands if c[0] == "cache"]
    (train,) = [c for c in commands if c[0] == "train"]
    root = tmp_path / "VG"
    root.mkdir()
    (write_raw_form if form == "raw" else write_h5_form)(root)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    assert f"`--config {TINY}`" in (ROOT / DOCUMENT).read_text()
    cache, train = ([TINY if word == WHOLE else word for word in one] for one in (cache, train))
    assert main([*first, *SMALL.split()]) == 0
    assert main(check) == 0
    assert main(cache) == 0
    capsys.readouterr()
    assert main([*train, "--max-steps", "2"]) == 0
    assert "all of it was in the cache" in capsys.readouterr().out
    assert list((tmp_path / "runs" / "vg" / "final").iterdir())
