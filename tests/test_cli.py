"""The command line: what it lists, how it ends, and the whole way through it on a miniature.

If one of these failed, a command would be missing, end with the wrong status, or wait for torch
before it prints its help.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import sgflux
import sgflux.settings.training
from sgflux import cli
from sgflux.cli import COMMANDS, main
from sgflux.commands import Command
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.settings.flat import flag_of, flat_hints
from tests.helpers.flux import make_flux_folder

Capture = pytest.CaptureFixture[str]

PARTS = ("subject", "predicate", "object")


def ending_in(error: BaseException) -> tuple[Command, ...]:
    def run(command: Command, arguments: Sequence[str]) -> int:
        raise error

    return (Command(words=("fail",), purpose="Fail", example="sgflux fail", run=run),)


def test_help_lists_every_command(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for command in COMMANDS:
        assert " ".join(command.words) in text
        assert command.purpose in text


HEAVY = ("accelerate", "diffusers", "h5py", "matplotlib", "numpy", "peft", "torch", "transformers")
"""Libraries of which one alone takes longer to import than ``--help`` may take as a whole."""

BAD_VALUES = {
    "data world": ["--no-such-flag"],
    "data vg": ["--output-dir", "out"],
    "data check": [],
    "cache": ["a.jsonl", "--latent-cache-dir", "cache", "--shard", "2"],
    "train": ["--train-jsonl", "a.jsonl", "--output-dir", "out", "--lora-rank", "0"],
    "train-classifier": [
        "--train-jsonl",
        "a",
        "--val-jsonl",
        "b",
        "--output-dir",
        "c",
        "--max-steps=0",
    ],
    "sample": ["--steps", "0", "--prompt", "a dog"],
    "saliency": ["--image", "a.png", "--graph", "man, riding, horse", "--sigma", "2"],
    "eval": ["--data", "a.jsonl", "--steps", "0"],
    "export": ["--adapter", "final"],
    "import": ["--legacy", "a.pt"],
}
"""Arguments that a command refuses before it reads a file."""

GRAPH = ["--graph", "man, riding, horse"]
UNUSABLE = [
    ["train", "--config", "gone.toml"],
    ["train", "--config", "bad.json"],
    ["train", "--train-jsonl", "gone.jsonl", "--output-dir", "out"],
    ["train", "--train-jsonl", "here.jsonl", "--val-jsonl", "gone", "--output-dir", "out"],
    ["train", "--train-jsonl", "here.jsonl", "--output-dir", "out", "--resume", "step1.pt"],
    ["train", "--train-jsonl", "here.jsonl", "--output-dir", "out", "--init-from", "./gone"],
    ["train", "--train-jsonl", "here.jsonl", "--output-dir", "out", "--model-id", "./gone"],
    ["train", "--train-jsonl", "here.jsonl", "--output-dir", "out", "--model-id", "no/where"],
    ["train-classifier", "--train-jsonl", "gone", "--val-jsonl", "here.jsonl", "--output-dir", "o"],
    ["cache", "gone.jsonl", "--latent-cache-dir", "cache"],
    ["cache", "--verify", "--latent-cache-dir", "gone"],
    ["sample", "--adapter", "gone", *GRAPH],
    ["sample", "--adapter", "no/where", *GRAPH],
    ["sample", "--adapter", "gone", "--graph", "man"],
    ["sample", "--adapter", "gone", "--graph-file", "gone.json"],
    ["sample", "--model-id", "./gone", "--prompt", "a dog"],
    ["saliency", "--image", "gone.png", *GRAPH],
    ["saliency", "--image", "here.jsonl", "--graph", "man"],
    ["eval", "--data", "gone.jsonl"],
    ["eval", "--data", "here.jsonl", "--adapter", "gone"],
    ["eval", "--data", "here.jsonl", "--model-id", "tiny", "--output-dir", "here.jsonl/out"],
    ["export", "--adapter", "gone", "--format", "kohya", "--output", "lora.safetensors"],
    ["import", "--legacy", "a.pt", "--cgip-ckpt", "b", "--vocab-path", "c", "--output-dir", "out"],
    ["demo", "--output-dir", "here.jsonl/out"],
    ["eval", "calibrate", "--judge", "world", "--data", "here.jsonl", "--output", "."],
    ["data", "check", "gone.jsonl"],
    ["data", "vg", "--raw", "gone", "--output-dir", "out"],
    ["sample", "--model-id", "tiny", "--prompt", "a dog", "--output-dir", "here.jsonl/out"],
    ["world", "measure-base", "--model-id", "./gone"],
    ["world", "train-base", "--start-from", "gone", "--output-dir", "out"],
    ["world", "train-judge", "--output", "here.jsonl/out/judge.safetensors"],
]
"""Command lines that read well, whose files are missing or hold something else."""

OUTPUTS = {"figure", "latent_cache_dir", "offload_folder", "output", "output_dir"}
"""Settings that name files or folders which a command makes."""


def test_importing_the_sampler_is_no_dearer_than_importing_diffusers_pipeline() -> None:
    """Each name is imported when it is used, and the pipeline needs no library of its own."""
    code = """
import sys, sgflux.sampling
assert "torch" not in sys.modules
from diffusers import FluxPipeline
before = set(sys.modules)
sgflux.sampling.SceneGraphFluxPipeline
more = {name.split(".")[0] for name in set(sys.modules) - before}
assert more - sys.stdlib_module_names <= {"sgflux", "PIL", "msgspec"}, more
assert all(getattr(sgflux.sampling, name) for name in sgflux.sampling.__all__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MODULES = sorted({command.run.__module__ for command in COMMANDS})


def imported_by(*calls: Sequence[str]) -> dict[str, list[str]]:
    """The heavy libraries that are there after each of these command lines in one new process."""
    code = """
import contextlib, io, json, sys
from sgflux.cli import main
found = {}
for call in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(call)
    found[" ".join(call)] = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_help_waits_for_a_heavy_library() -> None:
    """A tenth of a second, not the three or four that torch and diffusers take to import."""
    calls = [["--help"], *([*command.words, "--help"] for command in COMMANDS)]
    assert not {call: found for call, found in imported_by(*calls).items() if found}


def test_no_complaint_about_a_flag_waits_for_a_heavy_library(capsys: Capture) -> None:
    calls = [["sampel"], *([*command.words, "--no-such-flag"] for command in COMMANDS)]
    calls += [[*name.split(), *arguments] for name, arguments in BAD_VALUES.items()]
    assert not {call: found for call, found in imported_by(*calls).items() if found}
    for call in calls:
        with contextlib.suppress(SystemExit):
            assert main(call) == 2, call


def test_no_complaint_about_a_file_waits_for_a_heavy_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    Path("here.jsonl").write_text("")
    Path("bad.json").write_text("{")
    assert not {call: found for call, found in imported_by(*UNUSABLE).items() if found}
    for call in UNUSABLE:
        assert main(call) == 2, call
        assert capsys.readouterr().err.count("\n") == 1, call


def settings_of_commands() -> Iterator[tuple[str, Any]]:
    """(name, annotation) of every setting that a flag of some command sets."""
    for module in (*map(import_module, MODULES), sgflux.settings.training):
        for cls in vars(module).values():
            if isinstance(cls, type) and is_dataclass(cls):
                yield from flat_hints(cls).items()


def test_every_path_is_an_input_or_an_output() -> None:
    """A new flag for a file would otherwise be looked at only after torch is imported."""
    paths = {
        name
        for name, hint in settings_of_commands()
        if "Path" in str(hint) and not flag_of(hint).is_input
    }
    assert paths - {"adapter"} == OUTPUTS  # an adapter may be on the hub


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_every_command_explains_itself(command: Command, capsys: Capture) -> None:
    assert command.example.startswith(command.prog)
    with pytest.raises(SystemExit) as stop:
        main([*command.words, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out.replace("\\\n", "")  # a command line goes on in the next line
    assert command.prog in text
    assert command.purpose in " ".join(text.split())
    assert command.example in " ".join(text.split())


def test_help_of_several_lines_of_source_is_one_paragraph(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main(["cache", "--help"])
    assert "Each part is encoded by a command of its own, on any machine" in capsys.readouterr().out


def test_a_group_lists_its_own_commands(capsys: Capture) -> None:
    assert main(["data", "--help"]) == 0
    text = capsys.readouterr().out
    assert "data world" in text
    assert "data check" in text
    assert "train-judge" not in text


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_no_command_is_bad_input_and_shows_the_list(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 2
    assert "data world" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["sampel"], "sgflux sample"), (["data", "wrld"], "sgflux data world"), (["?"], "--help")],
)
def test_an_unknown_command_names_the_nearest(words: list[str], hint: str, capsys: Capture) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no command")
    assert hint in error


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sgflux {sgflux.__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            SgfluxError("rows.jsonl:3: no triple; add one"),
            2,
            "error: rows.jsonl:3: no triple; add one",
        ),
        (FileNotFoundError(2, "No such file", "x.json"), 2, "error: x.json: No such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_ending_is_one_line_and_a_status(
    error: BaseException,
    status: int,
    line: str,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ending_in(error))
    assert main(["fail"]) == status
    assert capsys.readouterr().err == line + "\n"


def test_a_defect_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ending_in(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


def test_a_bad_value_of_a_flag_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    """The checks of a dataclass run outside of tyro, which would frame them in five lines."""
    flags = ["--data", "x.jsonl", "--output-dir", str(tmp_path), "--steps", "0"]
    assert main(["eval", *flags]) == 2
    assert capsys.readouterr().err == "error: steps must be at least 1, got 0\n"
    flags = ["--train-jsonl", "x.jsonl", "--output-dir", str(tmp_path), "--lora-rank", "0"]
    assert main(["train", *flags]) == 2
    assert capsys.readouterr().err == "error: lora_rank must be at least 1, got 0\n"
    assert main(["train", *flags[:-2], "--seed", str(2**64)]) == 2  # drawing would refuse it later
    assert capsys.readouterr().err.startswith("error: a seed must lie between")


def test_python_dash_m(tmp_path: Path) -> None:
    """What ``accelerate launch -m sgflux`` runs."""
    done = subprocess.run(
        [sys.executable, "-m", "sgflux", "data", "check", str(tmp_path / "none.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def world(out_dir: Path, *more: str) -> list[str]:
    counts = ["--train-per-class", "1", "--val-per-class", "1", "--test-per-class", "1"]
    return ["data", "world", "--output-dir", str(out_dir), *counts, *more]


def test_data_world_writes_what_data_check_accepts(tmp_path: Path, capsys: Capture) -> None:
    assert main(world(tmp_path / "world", "--triples", "1,2", "--seed", "3")) == 0
    out = capsys.readouterr().out
    for split in ("train", "validation", "test"):
        assert f"{tmp_path / 'world' / split}.jsonl: 24 examples" in out
    summary = json.loads((tmp_path / "world" / "summary.json").read_text())
    assert summary["command"][:3] == ["sgflux", "data", "world"]
    assert summary["arguments"]["seed"] == 3
    test = tmp_path / "world" / "test.jsonl"
    assert main(["data", "check", str(test), str(test)]) == 0

    test.write_text(test.read_text() + "not json\n")
    assert main(["data", "check", str(test)]) == 1
    assert "test.jsonl:25: json" in capsys.readouterr().out

    assert main(world(tmp_path / "world")) == 2
    assert "give a new folder" in capsys.readouterr().err
    assert main(["data", "check"]) == 2


def test_the_whole_way(tmp_path: Path, capsys: Capture) -> None:
    """cache, train, sample and eval with what the one before has written."""
    model = str(make_flux_folder(tmp_path / "flux", num_layers=3, num_single_layers=1))
    size = ["--height", "16", "--width", "16"]
    data, run, cache = tmp_path / "data", tmp_path / "run", tmp_path / "cache"
    assert main(world(data, "--resolution", "64")) == 0
    files = [str(data / f"{split}.jsonl") for split in ("train", "validation")]

    common = ["--model-id", model, *size, "--latent-cache-dir", str(cache), "--device", "cpu"]
    capsys.readouterr()
    assert main(["cache", *files, *common, "--dtype", "fp32"]) == 0
    assert "24 examples with 24 pictures" in capsys.readouterr().out
    cached = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert cached

    flags = ["--train-jsonl", files[0], "--val-jsonl", files[1], "--output-dir", str(run)]
    steps = ["--max-steps", "2", "--val-every", "1", "--val-examples", "4", "--lora-rank", "2"]
    assert main(["train", *flags, *common, "--dtype", "fp32", *steps]) == 0
    # The same code path: what was encoded ahead is all that training needs.
    now = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert now == cached

    adapter = ["--adapter", str(run / "final"), "--model-id", model, *size, "--device", "cpu"]
    graphs = ["--graph", "man, riding, horse", "--graph", "cat, over, box"]
    pictures = tmp_path / "pictures"
    few = ["--num-images", "2", "--steps", "1", "--output-dir", str(pictures)]
    assert main(["sample", *adapter, *graphs, *few]) == 0
    assert len(list(pictures.glob("*.png"))) == 5  # two of each graph, and all on a sheet
    assert main(["sample", *adapter, "--graph", "man, ridng, horse", *few]) == 2
    assert "'riding'" in capsys.readouterr().err

    look = ["--image", str(pictures / "000-seed0.png"), "--graph", "man, riding, horse"]
    assert main(["saliency", *adapter, *look, "--output-dir", str(tmp_path / "maps")]) == 0
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {"contact_sheet.png", *(f"000-{x}.png" for x in PARTS)}
    assert main(["saliency", *adapter, *look, "--blocks", "3"]) == 2
    assert "has no effect without method 'attention'" in capsys.readouterr().err
    look += ["--method", "attention"]
    attention = ["--output-dir", str(tmp_path / "attention")]
    assert main(["saliency", *adapter, *look, *attention]) == 0
    about = read_picture(tmp_path / "attention" / f"000-{PARTS[0]}.png")[1]
    assert (about["method"], about["blocks"]) == ("attention", [1, 2])
    assert main(["saliency", *adapter, *look, "--blocks", "3"]) == 2
    assert "between 0 and 2" in capsys.readouterr().err

    out = tmp_path / "evaluation"
    arms = ["--arms", "base_neutral", "graph", "negative_graph", "--judge", "none"]
    items = ["--items", "4", "--steps", "1", "--ranking-sigmas", "1"]
    test = ["--data", str(data / "test.jsonl"), "--output-dir", str(out)]
    assert main(["eval", *adapter, *test, *arms, *items]) == 0
    results = json.loads((out / "evaluation_results.json").read_text())
    assert results["command"].startswith("sgflux eval --adapter")
    assert results["ranking_accuracy"]["n"] > 0
    page = (out / "report.html").read_text()
    assert "Validation error by graph" in page  # the run's curves were found beside its adapter
