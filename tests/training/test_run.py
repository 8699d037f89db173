"""Whole runs on a FLUX in miniature: what they write, how they stop, and how they go on.

If one of these failed, a run would leave its folder incomplete, or could not be stopped and
resumed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, shallow_dict
from sgflux.training.encoding.graph_encoder import other_words
from sgflux.training.run import train as trainer
from sgflux.training.run.train import TrainResult, train
from tests.helpers.scenes import example
from tests.helpers.training import MakeConfig, equal

SCRIPT = Path(__file__).parents[2] / "scripts" / "train" / "train_flux_graph_lora_diffusion.py"


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> TrainResult:
    """One uninterrupted run that several tests look at."""
    return train(make_config(tmp_path_factory.mktemp("finished") / "run"))


def test_a_run_leaves_what_the_documentation_lists(finished: TrainResult) -> None:
    folder = finished.output_dir
    assert finished.exit_status == 0
    assert {path.name for path in folder.iterdir()} == {
        "step2.pt",
        "step4.pt",
        "best_graph_lora_token.pt",
        "final_graph_lora_token.pt",
        "training.log",
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "final",
    }
    for path in folder.glob("*.pt"):
        torch.load(path, weights_only=True)
    stored = json.loads((folder / "config.json").read_text())
    assert TrainConfig.from_flat(**stored).optimizer.max_steps == 4
    log = (folder / "training.log").read_text()
    assert "token mode, native encoder (no --cgip-ckpt given)" in log
    assert finished.bundle == folder / "final"
    assert (folder / "final" / "pytorch_lora_weights.safetensors").is_file()


def test_metrics_have_their_documented_fields(finished: TrainResult) -> None:
    training = rows(finished.output_dir, "train")
    assert [row["step"] for row in training] == [1, 2, 3, 4]
    assert set(training[0]) == {
        "kind", "step", "epoch", "loss", "grad_norm", "lr", "steps_per_second",
        "examples_per_second", "loss_gen", "loss_words",
    }  # fmt: skip
    assert training[2]["epoch"] == 1.0  # 3 steps of 2 of 6 examples
    validation = rows(finished.output_dir, "validation")
    assert [row["step"] for row in validation] == [2, 4]
    assert set(validation[0]) == {
        "kind", "step", "epoch", "loss", "loss_null", "loss_negative", "negative_gap",
        "ranking_accuracy", "ranking_n", "ranking_by_kind", "by_sigma", "seconds",
    }  # fmt: skip
    assert validation[0]["ranking_n"] == 4 * 2
    assert [entry["sigma"] for entry in validation[0]["by_sigma"]] == [0.25, 0.75]


@pytest.mark.parametrize("select_by", [None, "val_loss"])
def test_the_best_checkpoint_is_the_selected_one(
    tmp_path: Path, make_config: MakeConfig, select_by: Literal["val_loss"] | None
) -> None:
    """Where the base teaches in words, the last one unless another rule is asked for."""
    too_fast = make_config(
        tmp_path / "run", select_by=select_by, lr=100.0, max_steps=2, val_every=1
    )
    result = train(too_fast)
    validation = rows(result.output_dir, "validation")
    least, last = min(validation, key=lambda row: row["loss"]), validation[-1]
    assert least["step"] < last["step"], "else both rules select the same"
    wanted = least if select_by else last
    best = AdapterWeights.load(result.output_dir / "best_graph_lora_token.pt")
    assert (best.step, best.metrics["loss"]) == (wanted["step"], wanted["loss"])
    assert best.metrics["select_by"] == (select_by or "last")
    assert result.best is not None
    assert result.best["step"] == wanted["step"]
    assert best.ema is not None
    assert set(best.ema) == set(best.trainable)
    final = AdapterWeights.load(result.output_dir / "final_graph_lora_token.pt")
    assert final.step == 2


def test_the_bundle_holds_the_averaged_weights_of_the_best_step(finished: TrainResult) -> None:
    from sgflux.models.bundle import load_bundle

    best = AdapterWeights.load(finished.output_dir / "best_graph_lora_token.pt")
    config, state = load_bundle(finished.output_dir / "final")
    assert config.to_json() == best.adapter
    assert equal(dict(state), best.ema)


def test_training_on_a_few_pictures_learns_them(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        tmp_path / "run",
        val_jsonl=make_config(tmp_path / "x").data.train_jsonl,
        max_steps=150,
        batch_size=6,
        lr=0.02,
        ema_decay=0.0,
        val_every=149,
        save_every=0,
        log_every=50,
        null_graph_probability=0.0,
    )
    train(config)
    start = rows(config.run.output_dir, "train")[0]["loss"]
    end = rows(config.run.output_dir, "validation")[-1]
    assert end["loss"] < 0.8 * start


def test_a_missing_picture_is_named_with_its_file(
    make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    content = (scenes / "train.jsonl").read_text().replace("images/train/0.png", "gone.png")
    (tmp_path / "train.jsonl").write_text(content)
    config = make_config(tmp_path / "run", train_jsonl=tmp_path / "train.jsonl", images_dir=scenes)
    with pytest.raises(SgfluxError, match=r"train\.jsonl:1: .*gone\.png.*data check"):
        train(config)


def test_words_that_no_vocabulary_knows_are_named() -> None:
    examples = [example(0, split="train")] * 2
    assert other_words(examples) is None
    row = {**examples[0].to_json(), "concepts": ["man", "ridng", "horse"]}
    row["triple"] = {**row["triple"], "predicate": "ridng"}
    odd = SceneExample.from_json(row, open_vocabulary=True)
    line = other_words([*examples, odd, odd])
    assert line is not None
    assert line.endswith("taken as they are: 'ridng' 2 times (like 'riding')")


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    finished: TrainResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    def interrupt(model: object, step: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    config = make_config(tmp_path / "run")
    stopped = train(config, validate=interrupt)
    assert (stopped.exit_status, stopped.step, stopped.bundle) == (143, 2, None)
    assert (config.run.output_dir / "step2.pt").is_file()
    resumed = train(make_config(tmp_path / "run", resume="auto"))
    assert (resumed.exit_status, resumed.step) == (0, 4)
    a, b = (
        shallow_dict(TrainingState.load(folder / "step4.pt"))
        for folder in (finished.output_dir, config.run.output_dir)
    )
    a["config"] = b["config"] = None  # differ in output_dir and resume
    assert [name for name in a if not equal(a[name], b[name])] == []
    same = ("step", "loss", "grad_norm", "lr")
    for row_a, row_b in zip(
        rows(finished.output_dir, "train"), rows(config.run.output_dir, "train"), strict=True
    ):
        assert [row_a[name] for name in same] == [row_b[name] for name in same]


def test_a_run_stopped_within_a_validation_catches_up_on_it(
    finished: TrainResult, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sgflux.training import validation

    original = validation.Validator.batch

    def interrupting(self: Any, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(validation.Validator, "batch", interrupting)
    config = make_config(tmp_path / "run")
    stopped = train(config)
    monkeypatch.undo()
    assert (stopped.exit_status, stopped.step) == (130, 2)
    assert rows(config.run.output_dir, "validation") == []
    assert TrainingState.load(config.run.output_dir / "step2.pt").validated_step == 0
    train(make_config(tmp_path / "run", resume=str(config.run.output_dir / "step2.pt")))
    folders = (finished.output_dir, config.run.output_dir)
    a, b = (rows(folder, "validation") for folder in folders)
    assert [row["loss"] for row in a] == [row["loss"] for row in b]


def test_sigterm_ends_the_script_with_143_and_a_checkpoint(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run")
    command = [
        sys.executable, str(SCRIPT), "--train-jsonl", str(config.data.train_jsonl),
        "--output-dir", str(config.run.output_dir), "--model-id", config.model.model_id,
        "--device", "cpu",
        "--dtype", "fp32", "--height", "16", "--width", "16", "--epochs", "100000",
        "--log-every", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = config.run.output_dir / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
            assert time.monotonic() < deadline, "the run did not start"
            time.sleep(0.1)
        process.terminate()
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, errors
    match = re.search(r"stopped by SIGTERM after step (\d+).*--resume auto", output)
    assert match, output
    assert TrainingState.load(config.run.output_dir / f"step{match[1]}.pt").step == int(match[1])


def test_a_loss_that_is_not_finite_stops_the_run(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", lr=1e30, warmup_steps=0, save_every=1, val_every=0)
    with pytest.raises(SgfluxError, match=r"of step \d is not finite.*step\d\.pt"):
        train(config)
    assert not (config.run.output_dir / "final").exists()


def test_a_folder_in_use_and_other_settings_are_refused(
    finished: TrainResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = finished.output_dir
    with pytest.raises(SgfluxError, match="is not empty; add '--resume auto'"):
        train(make_config(folder))
    with pytest.raises(SgfluxError, match=r"other settings \(lr: 0.01 in the checkpoint, 0.5 now"):
        train(make_config(folder, lr=0.5, log_every=3, resume="auto"))


def test_other_data_are_refused(
    finished: TrainResult, make_config: MakeConfig, scenes: Path, tmp_path: Path
) -> None:
    state = TrainingState.load(finished.output_dir / "step2.pt")
    changed = shallow_dict(state)
    changed["content"] = {**state.content, "training": "0" * 64}
    TrainingState(**changed).save(tmp_path / "step2.pt")
    config = make_config(tmp_path / "run", resume=str(tmp_path / "step2.pt"))
    with pytest.raises(SgfluxError, match="the training rows or the bytes of their pictures"):
        train(config)


def test_resuming_a_finished_run_only_writes_its_results_again(
    finished: TrainResult, make_config: MakeConfig
) -> None:
    before = AdapterWeights.load(finished.output_dir / "final_graph_lora_token.pt")
    again = train(make_config(finished.output_dir, resume="auto"))
    assert again.step == 4
    after = AdapterWeights.load(finished.output_dir / "final_graph_lora_token.pt")
    assert equal(after.trainable, before.trainable)


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(make_config(tmp_path / "run", dry_run=True, max_steps=None, epochs=2))
    assert (result.step, result.max_steps) == (0, 6)
    assert not (tmp_path / "run").exists()
    output = capsys.readouterr().out
    assert "6 examples, 6 steps of 2 (2 epochs)" in output
    assert "4 image + 32 text per sample" in output
    assert '"lora_rank": 2' in output
    assert re.search(r"[\d,]+ trained of [\d,]+", output)


def test_what_does_not_fit_the_model_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match=r"must be multiples of 8 .* got 20 and 16"):
        train(make_config(tmp_path / "a", height=20))
    with pytest.raises(SgfluxError, match=r"0 <= block_start < block_end <= 3"):
        train(make_config(tmp_path / "b", block_start=2, block_end=5))
    with pytest.raises(SgfluxError, match=r"guidance \(3.5\) has no effect"):
        train(make_config(tmp_path / "c", guidance=3.5))
    with pytest.raises(SgfluxError, match="'cgip' needs vocab_path"):
        train(make_config(tmp_path / "d", cgip_ckpt="sip_vg.pt"))
    # A run that failed before its first step leaves the folder usable.
    for name in "abcd":
        assert not (tmp_path / name).exists() or not list((tmp_path / name).iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"graph_mode": "temb", "ema_decay": 0.0},
        {"dtype": "bf16", "gradient_checkpointing": True, "gradient_accumulation_steps": 2},
        {"val_jsonl": None, "val_every": 250, "val_sigmas": 4, "lora_targets": "image"},
        {
            "prompt_mix": {"neutral": 1, "relational": 1, "empty": 1, "contradicting": 1},
            "select_by": "ranking_accuracy",
        },
    ],
    ids=["temb", "bf16", "no validation", "mixed prompts"],
)
def test_the_variants_run_through(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    result = train(make_config(tmp_path / "run", max_steps=2, **changes))
    assert result.bundle is not None
    state = TrainingState.load(tmp_path / "run" / "step2.pt")
    assert all(torch.isfinite(weight).all() for weight in state.trainable.values())
    assert all(weight.dtype == torch.float32 for weight in state.trainable.values())


def test_a_cache_gives_the_same_run(
    finished: TrainResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        config = make_config(tmp_path / name, latent_cache_dir=tmp_path / "cache", max_steps=2)
        train(config)
        loss = rows(config.run.output_dir, "train")[0]["loss"]
        assert loss == rows(finished.output_dir, "train")[0]["loss"]
    assert list((tmp_path / "cache").glob("shard-*.safetensors"))


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_broken_base_is_refused_before_anything_is_encoded(
    flux: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    dry_run: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights of the transformer are the last to be loaded, after everything is encoded."""
    broken = tmp_path / "base"
    shutil.copytree(flux, broken)
    weights = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    monkeypatch.setattr(trainer, "encode_data", lambda *_, **__: pytest.fail("it was encoded"))
    config = make_config(tmp_path / "run", model_id=str(broken), dry_run=dry_run)
    with pytest.raises(SgfluxError, match=rf"{weights.name}: has .* \(1 bytes are missing\)"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_it_checked_and_what_not(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config(tmp_path / "run", dry_run=True))
    said = capsys.readouterr().out
    for what in ("headers of", "names and statements tokenised", "pictures decoded", "not checked"):
        assert what in said
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_for_a_checkpoint_is_refused_at_the_start(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgflux.files.writing.free_bytes", lambda _: 1000)
    config = make_config(tmp_path / "run")
    with pytest.raises(SgfluxError, match=r"a checkpoint and the finished adapter take about"):
        train(config)
    cached = make_config(tmp_path / "run", latent_cache_dir=tmp_path / "cache")
    monkeypatch.setattr("sgflux.training.run.outline.check_room", lambda *_, **__: None)
    with pytest.raises(SgfluxError, match=r"cache: \d+ encoded pictures and \d+ texts take about"):
        train(cached)
