"""Two processes under accelerate's launcher: they share the work, and agree.

If one of these failed, several devices would learn from the same examples, or end with different
weights.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from sgflux.cli import main
from sgflux.training.checkpoints.checkpoint import TrainingState
from tests.helpers.training import MakeConfig
from tests.helpers.two_processes import TRAINING, finish, flags_of, launch

pytestmark = pytest.mark.slow


AVERAGING = """
import torch
from torch import nn
from sgflux.training.optimization import average_gradients
from sgflux.training.processes.processes import Processes

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


CACHING = """
import sys
from sgflux.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_gradients_are_averaged_and_missing_ones_count_as_zero(tmp_path: Path) -> None:
    script = tmp_path / "averaging.py"
    script.write_text(AVERAGING)
    assert finish(launch(script)).count("averaged") == 2


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
