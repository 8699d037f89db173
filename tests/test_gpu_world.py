"""The stages that train and measure the bundled world on a GPU, rehearsed on the CPU.

If one of these failed, minutes on a rented machine would be lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpu_world
import pytest
import torch
from gpu_world import LEAST, Scale, Stages, adapter_settings, fitting, training_world
from hard_graphs import WORLDS, world_settings

from sgflux.errors import SgfluxError
from sgflux.evaluation.records import PICTURE_RESULTS

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_a_training_has_the_steps_that_fit_and_no_more_than_are_asked_for() -> None:
    assert fitting(100, seconds=30.0, each=0.5) == 60
    assert fitting(100, seconds=300.0, each=0.5) == 100
    assert fitting(100, seconds=-3.0, each=0.5) == 1


def test_a_base_shares_its_time_among_all_of_its_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train_base(config: Any) -> Path:
        trained.append(config)
        return Path("pipeline")

    monkeypatch.setattr(gpu_world, "train_base", train_base)
    config = gpu_world.base_settings(Scale(), tmp_path, device="cpu", compiled=False)
    each = {"base": 0.1, "distill": 0.2, "vae": 0.1}
    seconds = sum(
        count * each[name] for name, count in (("base", 2500), ("distill", 500), ("vae", 700))
    )
    gpu_world.train_the_base(config, each, seconds / 2)
    gpu_world.train_the_base(config, each, 2 * seconds)
    half, whole = ((own.max_steps, own.distill_steps, own.vae_steps) for own in trained)
    assert half == (1250, 250, 350)
    assert whole == (2500, 500, 700)
    begun = {"max_steps": "9", "distill_steps": "8", "vae_steps": "7"}
    (tmp_path / "recipe.json").write_text(json.dumps(begun))
    gpu_world.train_the_base(config, each, seconds)
    assert (trained[2].max_steps, trained[2].distill_steps, trained[2].vae_steps) == (9, 8, 7)


def test_a_probe_that_was_stopped_is_made_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, left = tmp_path / "probe", []

    def train(config: Any = None, **settings: Any) -> None:
        left.append(folder.exists())

    @contextmanager
    def five_steps(place: Any) -> Iterator[list[float]]:
        yield [float(number) for number in range(15)]

    monkeypatch.setattr(gpu_world, "train_base", train)
    monkeypatch.setattr(gpu_world, "train_by_settings", train)
    monkeypatch.setattr(gpu_world, "step_times", five_steps)
    config = gpu_world.base_settings(Scale(), folder, device="cpu", compiled=False)
    folder.mkdir()
    gpu_world.time_the_base(config, 5)
    folder.mkdir()
    gpu_world.time_the_adapter({"device": "cpu", "output_dir": folder}, 5)
    assert left == [False, False]


def test_what_is_measured_was_not_trained_on() -> None:
    trained = training_world(Scale())
    for name in WORLDS:
        measured = world_settings(name, trained, 2)
        assert measured["seed"] != trained["seed"]
        assert measured["hold_out_seed"] == trained["seed"]
    config = gpu_world.base_settings(Scale(), Path("base"), device="cpu", compiled=False)
    assert config.hold_out_shapes == tuple(trained["hold_out_shapes"])


def test_own_settings_change_the_recipe_but_not_its_length() -> None:
    own = {"box_positions": True, "max_steps": 7, "batch_size": 8}
    settings = adapter_settings(Scale(), Path("f"), base="tiny", device="cpu", own=own)
    assert settings["box_positions"] is True
    assert settings["batch_size"] == 8
    assert settings["max_steps"] == Scale().adapter


def test_stages_are_kept_dropped_and_done_again(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    stages = Stages(path, {"commit": "a"}, given={"card": "one"}, budget=1000.0)

    def fail() -> dict[str, Any]:
        raise RuntimeError("no memory")

    assert stages.do("worlds", lambda: {"rows": 3})
    assert not stages.do("base", fail)
    content = json.loads(path.read_text())
    assert content["stages"]["worlds"] == {
        **{"rows": 3, "status": "done", "seconds": 0.0, "commit": "a"}
    }
    assert content["stages"]["base"]["error"] == "RuntimeError: no memory"
    again = Stages(path, {"commit": "b"}, given={"card": "one"}, budget=1000.0)
    assert again.do("worlds", fail), "what is done is not done again"
    assert again.found("worlds")["rows"] == 3
    assert again.do("base", lambda: {"steps": 1}), "what failed is tried again"
    done = again.content["stages"]
    assert (done["worlds"]["commit"], done["base"]["commit"]) == ("a", "b")
    late = Stages(path, {}, given={"card": "one"}, budget=LEAST["adapter"] - 1)
    assert not late.do("adapter", lambda: {})
    assert json.loads(path.read_text())["stages"]["adapter"]["status"] == "dropped"


def test_stages_of_another_base_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    given = {"card": "one", "base": "A", "settings": {}}
    assert Stages(path, {}, given=given, budget=1000.0).do("worlds", lambda: {})
    with pytest.raises(SgfluxError, match=r"has stages of another base, settings; give another"):
        Stages(path, {}, given={**given, "base": "B", "settings": {"lr": "1"}}, budget=1000.0)


def test_a_stage_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "out.json", {}, given={}, budget=0.2)

    def forever() -> dict[str, Any]:
        while True:
            pass

    assert not stages.do("worlds", forever)
    assert stages.content["stages"]["worlds"]["status"] == "stopped"


def told(evaluation: Path) -> list[Any]:
    """Noise, text and graph of each picture that an evaluation drew with the item's graph."""
    lines = map(json.loads, (evaluation / PICTURE_RESULTS).read_text().splitlines())
    return [
        [line[key] for key in ("seed", "prompt", "graph")]
        for line in lines
        if line["arm"] == "graph"
    ]


@pytest.mark.slow
def test_every_stage_runs_on_the_cpu(tmp_path: Path) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("the bundled world's base needs torch >= 2.9")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_world.py"), "--toy", "--budget-s", "3000"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    content = json.loads((tmp_path / "runs/gpu_world_toy/gpu_world_toy.json").read_text())
    names = ["base-probe", "base", "worlds", "adapter-probe", "adapter", "measure", "control"]
    names.append("compare")
    assert [name for name, one in content["stages"].items() if one["status"] == "done"] == names
    groups = content["stages"]["compare"]["groups"]
    assert set(groups["4 statements"]["arms"]) >= {"graph", "base_relational", "control"}
    assert "| 3 statements, twins |" in done.stdout
    record = content["stages"]["compare"]
    assert record["control"]["path"] == "runs/gpu_world_toy/control/final"
    assert record["control"]["fingerprint"] != record["adapter"]["fingerprint"]
    assert "| text control |" in done.stdout
    assert "Text control is runs/gpu_world_toy/control/final" in done.stdout
    measured = tmp_path / "runs/gpu_world_toy/measured"
    for name in WORLDS:
        assert told(measured / "control" / name) == told(measured / "adapter" / name)
    assert str(tmp_path) not in json.dumps(content), "a folder of this machine is nobody's business"
