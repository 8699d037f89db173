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
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig
from tests.helpers.two_processes import TRAINING, finish, flags_of, launch

pytestmark = pytest.mark.slow


SHARING = """
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from sgflux.bases.memory.recomputation import Recompute
from sgflux.bases.memory.sharding import BlockShards
from sgflux.training.processes.processes import Processes

processes = Processes.start("auto")
assert processes.count == 2
assert processes.gather([processes.index]) == [0, 1]

# The other process does not touch one weight, and nobody touches the last.
both, one, none = (nn.Parameter(torch.zeros(n)) for n in (3, 4, 5))
gradients = processes.gradients([both, one, none])
for step in (1, 2):  # in two passes, of which only the second averages
    with gradients.kept_here(step == 1):
        own = [both.sum() * processes.index, *([3 * one.sum()] if processes.is_main else [])]
        gradients(lambda: (sum(own), torch.zeros(1)))[0].backward()
gradients.complete()
assert torch.equal(both.grad, torch.full((3,), 1.0)), both.grad
assert torch.equal(one.grad, torch.full((4,), 3.0)), one.grad
assert torch.equal(none.grad, torch.zeros(5)), none.grad

# A frozen layer is divided, its trained neighbour is not; gradients are those of whole layers.
torch.manual_seed(0)
blocks = [nn.Sequential(nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 6)) for _ in range(3)]
trained = [weight for block in blocks for weight in block.parameters() if weight.requires_grad]
start = torch.ones(2, 6)

def forward(call):
    state = start
    for block in blocks:
        state = call(block, Recompute(1), state)
    return state.square().mean()

def whole(block, run, state):
    return run(block, state)

def divided(block, run, state):
    return shards.gathered(block, run)(block, state)

expected = torch.autograd.grad(forward(whole), trained)
shards = BlockShards(blocks, mesh=processes.sharing_base(), whole=trained)
for _ in range(2):
    found = torch.autograd.grad(forward(divided), trained)
    assert all(map(torch.equal, found, expected))
    weights = [block[0].weight for block in blocks]
    assert all(isinstance(weight, DTensor) for weight in weights), "given up after the pass"
    assert sum(weight.to_local().numel() for weight in weights) == 3 * 18
print("shared")
"""


COMMANDS = """
import sys
from sgflux.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


SEVERAL_COMMANDS = """
import json, sys
from sgflux.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0
"""


def test_gradients_are_averaged_and_frozen_weights_divided(tmp_path: Path) -> None:
    script = tmp_path / "sharing.py"
    script.write_text(SHARING)
    assert finish(launch(script)).count("shared") == 2


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
    script.write_text(COMMANDS)
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


def test_two_processes_sample_and_evaluate_together(
    make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    """Each draws half of the pictures and measures half of the errors; the results are equal."""
    config = make_config(tmp_path / "run", max_steps=2, sample_steps=0, val_every=0)
    bundle = train(config).bundle
    script = tmp_path / "commands.py"
    script.write_text(SEVERAL_COMMANDS)
    both = ["--adapter", str(bundle), "--model-id", str(config.model.model_id)]
    both += ["--height", "16", "--width", "16", "--steps", "1", "--batch-size", "1"]
    both += ["--device", "cpu", "--dtype", "fp32"]
    evaluating = ["eval", *both, "--data", str(scenes / "val.jsonl"), "--judge", "none"]
    evaluating += ["--allow-seen-data", "--arms", "base_neutral", "graph"]
    sampling = ["sample", *both, "--num-images", "3"]
    sampling += ["--graph", "man, riding, horse", "--graph", "dog, above, cat"]
    together = [
        [*evaluating, "--output-dir", str(tmp_path / "together")],
        [*sampling, "--output-dir", str(tmp_path / "drawn_together")],
    ]
    output = finish(launch(script, json.dumps(together)))
    assert output.count("pictures: 8 drawn, 0 kept") == 1
    assert output.count("6 pictures of 16 x 16 pixels") == 1
    assert main([*evaluating, "--output-dir", str(tmp_path / "alone")]) == 0
    assert main([*sampling, "--output-dir", str(tmp_path / "drawn_alone")]) == 0
    names = sorted(path.name for path in (tmp_path / "drawn_alone").glob("*.png"))
    assert len(names) == 7
    for name in names:
        one, other = (tmp_path / f"drawn_{way}" / name for way in ("together", "alone"))
        assert one.read_bytes() == other.read_bytes(), name
    found, expected = (
        [json.loads(line) for line in (tmp_path / name / "results.jsonl").open()]
        for name in ("together", "alone")
    )
    assert found == expected
    # A matrix product over another number of rows may round the last bit otherwise.
    figures, alone = (
        json.loads(
            (tmp_path / name / "evaluation_results.json").read_text(),
            parse_float=lambda number: round(float(number), 5),
        )
        for name in ("together", "alone")
    )
    assert figures["ranking_accuracy"]["n"]
    assert figures["ranking_accuracy"] == alone["ranking_accuracy"]


def test_two_processes_end_early_in_one_step(make_config: MakeConfig, tmp_path: Path) -> None:
    """If only one of them did, the other would wait for it without end."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    config = make_config(
        tmp_path / "run",
        batch_size=1,
        max_steps=20,
        val_every=1,
        select_by="ranking_accuracy",
        early_stopping_patience=2,
        early_stopping_min_delta=1.0,
    )
    assert "the run ends early, after step 3" in finish(launch(script, *flags_of(config)))
    assert (tmp_path / "run" / "final").is_dir()


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
