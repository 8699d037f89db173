"""Two processes under accelerate's launcher: they share the work, and agree."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sgflux.cli import main
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoint import TrainingState
from sgflux.training.command_line import settings_as_flags
from tests.training.conftest import MakeConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

AVERAGING = """
import torch
from torch import nn
from sgflux.training.optimization import average_gradients
from sgflux.training.processes import Processes

processes = Processes.start("auto")
assert processes.count == 2
both, one = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))
both.grad = torch.full((2, 3), float(processes.index))  # mean 0.5
if processes.is_main:
    one.grad = torch.full((4,), 3.0)  # no example of the other process touched it: mean 1.5
extra = average_gradients(
    [both, one], torch.tensor([float(processes.index), 7.0]), processes=processes
)
assert torch.equal(both.grad, torch.full((2, 3), 0.5)), both.grad
assert torch.equal(one.grad, torch.full((4,), 1.5)), one.grad
assert extra.tolist() == [0.5, 7.0], extra
assert processes.gather([processes.index]) == [0, 1]
print("averaged")
"""

TRAINING = """
import hashlib, sys
from sgflux.training import loop
from sgflux.training.command_line import parse_train_config
from sgflux.training.processes import Processes
from sgflux.training.trainer import train

seen = {}
original = loop.TrainingRun.finished

def finished(self):
    weights = original(self)
    digest = hashlib.sha256()
    for value in weights.trainable.values():
        digest.update(value.numpy().tobytes())
    seen["digest"] = digest.hexdigest()
    return weights

loop.TrainingRun.finished = finished
result = train(parse_train_config(sys.argv[1:]))
if result.interrupted_by is None:
    digests = Processes.start("cpu").gather([seen["digest"]])
    assert len(digests) == 2 and digests[0] == digests[1], digests
raise SystemExit(result.exit_status)
"""


CACHING = """
import sys
from sgflux.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def launch(script: Path, *flags: str) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(port), str(script), *flags,
    ]  # fmt: skip
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output


def test_gradients_are_averaged_and_missing_ones_count_as_zero(tmp_path: Path) -> None:
    script = tmp_path / "averaging.py"
    script.write_text(AVERAGING)
    assert finish(launch(script)).count("averaged") == 2


def flags_of(config: TrainConfig) -> list[str]:
    return settings_as_flags(config.to_json())


def test_two_processes_end_with_the_same_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    config = make_config(tmp_path / "run", batch_size=1, latent_cache_dir=tmp_path / "cache")
    output = finish(launch(script, *flags_of(config)))
    assert output.count("finished: the adapter of step") == 1  # one of them speaks
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4]
    assert [row["ranking_n"] for row in rows if row["kind"] == "validation"] == [8, 8]
    state = TrainingState.load(tmp_path / "run" / "step4.pt")
    assert (state.processes, state.position, state.epoch) == (2, 8, 1)


def test_two_processes_fill_one_cache(flux: Path, scenes: Path, tmp_path: Path) -> None:
    script, folder = tmp_path / "caching.py", tmp_path / "cache"
    script.write_text(CACHING)
    command = ["cache", str(scenes / "train.jsonl"), str(scenes / "val.jsonl")]
    command += ["--latent-cache-dir", str(folder), "--model-id", str(flux), "--device", "cpu"]
    command += ["--height", "16", "--width", "16", "--dtype", "fp32"]
    first, second = finish(launch(script, *command)).splitlines()
    assert "6 examples with 6 pictures" in first  # one of them speaks, of what both did
    assert "0 encoded now" not in second
    assert "left to other parts" not in first + second
    assert main([*command, "--verify"]) == 0
    pictures = [path for path in folder.glob("*.json") if '"mean"' in path.read_text()]
    assert len(pictures) == 4  # each of them wrote a shard of each file's pictures


def test_a_signal_to_the_launcher_saves_once_and_the_run_goes_on(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    config = make_config(tmp_path / "run", batch_size=1, max_steps=100_000, val_every=0)
    process = launch(script, *flags_of(config))
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert "stopped by SIGTERM after step" in output, errors
    (path,) = sorted((tmp_path / "run").glob("step*.pt"), key=lambda p: p.stat().st_mtime)[-1:]
    state = TrainingState.load(path)
    assert state.processes == 2
    assert all(torch.isfinite(weight).all() for weight in state.trainable.values())
