"""Several processes learn what one process learns from the same forward passes, with either engine.

If one of these failed, DDP or FSDP2 would change what is learned, a graph that only one process has
would be lost or would stop the others, or a run could not go on with another number of processes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch import Tensor

from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.checkpoint import TrainingState
from sgflux.training.run.train import train
from tests.helpers.training import Drawn, MakeConfig
from tests.helpers.two_processes import (
    DDP,
    FSDP2,
    RUNS,
    finish,
    flags_of,
    free_port,
    launch,
    launch_machine,
)

ALL_TERMS: dict[str, Any] = {
    "losses": LossSettings.from_flat(
        lambda_words=1.0,
        lambda_anchor=0.1,
        lambda_rel_rank=0.1,
        negatives=NegativeMix(hard_predicate=1.0),
        hard_negatives_every=4,
        alpha_gen_rel=1.0,
    ),
    "gradient_checkpointing": True,
}
"""Settings that use every form of a block, with recomputation."""


def run_together(tmp_path: Path, *configs: TrainConfig, processes: int, engine: Any = DDP) -> str:
    script = tmp_path / "runs.py"
    script.write_text(RUNS)
    files = []
    for number, config in enumerate(configs):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(config.to_json()))
    return finish(launch(script, *map(str, files), processes=processes, engine=engine))


def state_of(config: TrainConfig, step: int) -> TrainingState:
    return TrainingState.load(config.run.output_dir / f"step{step}.pt")


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Sums in another order differ in the last digits, which AdamW carries on from step to step."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        difference = float((value - expected[name]).norm())
        assert difference <= 1e-4 * float(expected[name].norm()), name


def test_two_processes_with_either_engine_learn_what_one_learns(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The single run has the two passes of a step after one another.

    The base is called once more for examples with a graph only, which one process has.
    """
    settings: dict[str, Any] = {
        "batch_size": 1,
        "null_graph_probability": 0.5,
        "sample_steps": 1,
        "flow_scale": 2.0,
        "losses": LossSettings.from_flat(lambda_words=1.0, words_scale=1.5),
    }
    drawn = Drawn()
    monkeypatch.setattr("sgflux.training.steps.draw_batch", drawn)
    alone = make_config(tmp_path / "alone", gradient_accumulation_steps=2, **settings)
    train(alone)
    nulls = [batch.graphs[0].is_null for batch in drawn.batches]
    steps = list(zip(nulls[::2], nulls[1::2], strict=True))
    assert any(one != other for one, other in steps), "one process has no graph and the other has"
    averaged = make_config(tmp_path / "ddp", **settings)
    shared = make_config(tmp_path / "fsdp", shard_base=True, **settings)
    run_together(tmp_path, averaged, shared, processes=2)
    expected = state_of(alone, 4)
    for config in (averaged, shared):
        found = state_of(config, 4)
        assert (found.processes, found.passes) == (2, 2)
        assert_close(found.trainable, expected.trainable)
        assert_close(found.ema or {}, expected.ema or {})
        assert (config.run.output_dir / "final" / "sample.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, ALL_TERMS], ids=["plain", "all_terms"])
def test_three_processes_learn_what_one_learns(
    changes: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    """Twenty steps, with validations whose items the three processes cannot divide."""
    settings: dict[str, Any] = {
        "batch_size": 1,
        "null_graph_probability": 0.3,
        "max_steps": 20,
        "val_every": 10,
        "save_every": 20,
        "sample_steps": 0,
        **changes,
    }
    alone = make_config(tmp_path / "alone", gradient_accumulation_steps=3, **settings)
    train(alone)
    averaged = make_config(tmp_path / "ddp", **settings)
    shared = make_config(tmp_path / "fsdp", **settings)
    run_together(tmp_path, averaged, processes=3)
    run_together(tmp_path, shared, processes=3, engine=FSDP2)
    for config in (averaged, shared):
        assert_close(state_of(config, 20).trainable, state_of(alone, 20).trainable)


COMMAND = """
import sys
from sgflux.cli import main
raise SystemExit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_two_go_on_for_three(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """The survivors say one thing; two processes then share the three passes of a step."""
    settings: dict[str, Any] = {
        "batch_size": 1,
        "null_graph_probability": 0.3,
        "max_steps": 40,
        "val_every": 0,
        "keep_checkpoints": 0,
        "sample_steps": 0,
    }
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    config = make_config(tmp_path / "run", **settings)
    process = launch(script, *flags_of(config), processes=3)
    deadline = time.monotonic() + 180
    while not (config.run.output_dir / "step4.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.05)
    (victim,) = (
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("RANK") == "1"
    )
    victim.kill()
    output, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (output + errors).count("error: another process of this run has ended") == 1, errors
    assert "the last checkpoint is" in errors
    assert "--resume auto" in errors
    assert "finished" not in output

    resumed = config.changed(resume="auto", shard_base=True)
    output = finish(launch(script, *flags_of(resumed), processes=2))
    assert "was trained by 3 process(es), now there are 2" in output
    assert "some are done twice and count once" in output
    alone = make_config(tmp_path / "alone", gradient_accumulation_steps=3, **settings)
    train(alone)
    found = state_of(config, 40)
    assert (found.processes, found.passes) == (2, 3)
    assert_close(found.trainable, state_of(alone, 40).trainable)


@pytest.mark.slow
def test_two_machines_share_a_base(make_config: MakeConfig, tmp_path: Path) -> None:
    """torchrun starts a part of the processes on each machine; each has one here."""
    settings: dict[str, Any] = {"batch_size": 1, "sample_steps": 0}
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    config = make_config(tmp_path / "run", shard_base=True, **settings)
    flags, port = flags_of(config), free_port()
    machines = [launch_machine(script, *flags, rank=rank, port=port) for rank in (0, 1)]
    output, silent = map(finish, machines)
    assert "cpu, fp32, 2 processes, which share the base" in output.replace("cpu:0", "cpu")
    assert "finished" not in silent
    alone = make_config(tmp_path / "alone", gradient_accumulation_steps=2, **settings)
    train(alone)
    assert_close(state_of(config, 4).trainable, state_of(alone, 4).trainable)
