"""What the recorded run notices: the record of a folder, and the comparison of two records.

Broken, a move of code that changes a weight, a file or a figure passes as one that changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recorded_run
import torch
from PIL import Image
from recorded_run import Run, compare
from safetensors.torch import save_file

SCRIPT = Path(recorded_run.__file__)


def write_run(folder: Path, shard: str = "0a", started: str = "1") -> Path:
    """Write what a run leaves, with a random name of a shard and the time of a log of events."""
    for name in ("final", "cache", "tensorboard"):
        (folder / name).mkdir(parents=True)
    save_file({"gate": torch.arange(3.0), "bias": torch.ones(2)}, folder / "final/a.safetensors")
    torch.save({"step": 2, "optimizer": [{"exp_avg": torch.zeros(2)}]}, folder / "step2.pt")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(folder / "final/sample.png")
    result = {"loss": 0.5, "none": float("nan"), "seconds": float(started), "data": str(folder)}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text('{"loss": 1.0}\n{"loss": 0.5}\n')
    save_file({"mean": torch.tensor([[1.0], [2.0]])}, folder / f"cache/shard-{shard}.safetensors")
    index = {"content": {"keys": ["first", "second"]}}
    (folder / f"cache/shard-{shard}.json").write_text(json.dumps(index))
    digests = {f"{folder}/vae/config.json|9|{started}|7": "abc"}
    (folder / "cache/encoder_digests.json").write_text(json.dumps(digests))
    (folder / f"tensorboard/events.out.tfevents.{started}.host.1").touch()
    return folder


def record(folder: Path) -> dict[str, Any]:
    run = Run(folder.parent / "checkout", folder.parent)
    run.record("run", folder)
    return run.found


@pytest.fixture
def before(tmp_path: Path) -> dict[str, Any]:
    return record(write_run(tmp_path / "one" / "run"))


def test_places_times_and_random_names_are_no_difference(
    tmp_path: Path, before: dict[str, Any]
) -> None:
    after = record(write_run(tmp_path / "other" / "run", shard="f7", started="2"))
    assert compare(before, after) == []


def change_tensor(folder: Path) -> None:
    changed = {"gate": torch.tensor([0.0, 1.0, 2.0000002]), "bias": torch.ones(2)}
    save_file(changed, folder / "final/a.safetensors")


def change_precision(folder: Path) -> None:
    changed = {"gate": torch.arange(3.0).bfloat16(), "bias": torch.ones(2)}
    save_file(changed, folder / "final/a.safetensors")


def change_checkpoint(folder: Path) -> None:
    torch.save({"step": 3, "optimizer": [{"exp_avg": torch.full((2,), 1.0)}]}, folder / "step2.pt")


def change_pixel(folder: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 4)).save(folder / "final/sample.png")


def change_row_of_cache(folder: Path) -> None:
    save_file({"mean": torch.tensor([[1.0], [2.5]])}, folder / "cache/shard-0a.safetensors")


def change_cache_key(folder: Path) -> None:
    index = {"content": {"keys": ["first", "third"]}}
    (folder / "cache/shard-0a.json").write_text(json.dumps(index))


def change_result(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"loss": 1.0}\n{"loss": 0.25}\n')


def remove_file(folder: Path) -> None:
    (folder / "final/sample.png").unlink()


def add_file(folder: Path) -> None:
    (folder / "notes.txt").touch()


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (change_tensor, ["changed: run/final/a.safetensors:gate: "]),
        (change_precision, ["changed: run/final/a.safetensors:gate: "]),
        (
            change_checkpoint,
            ["changed: run/step2.pt:optimizer:0:exp_avg: ", "changed: run/step2.pt:step: 2 -> 3"],
        ),
        (change_pixel, ["changed: run/final/sample.png: "]),
        (change_row_of_cache, ["changed: run/cache/second:mean: "]),
        (change_cache_key, ["missing: run/cache/second:mean", "new: run/cache/third:mean"]),
        (change_result, ["changed: run/metrics.jsonl > 1 > loss: 0.5 -> 0.25"]),
        (remove_file, ["missing: run/final/sample.png"]),
        (add_file, ["new: run/notes.txt"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_is_named_and_nothing_else(
    tmp_path: Path, before: dict[str, Any], change: Callable[[Path], None], lines: list[str]
) -> None:
    folder = write_run(tmp_path / "other" / "run")
    change(folder)
    found = compare(before, record(folder))
    assert len(found) == len(lines)
    for line, beginning in zip(found, lines, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize(("loss", "status"), [(0.5, 0), (0.25, 1)])
def test_the_exit_status_says_whether_records_differ(
    tmp_path: Path, loss: float, status: int
) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"eval": {"loss": 0.5}}))
    (tmp_path / "b.json").write_text(json.dumps({"eval": {"loss": loss}}))
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--compare",
            str(tmp_path / "a.json"),
            str(tmp_path / "b.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("eval > loss" in done.stdout) is bool(status)
