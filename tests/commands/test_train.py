"""The flags: ``sgflux train`` with its config files, and the original training script's.

If one of these failed, a documented flag or config file would be refused, or would set something
else than it says.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgflux.commands.train import (
    main,
    parse_original,
    parse_train_config,
)
from sgflux.settings.checks import ConfigError
from sgflux.settings.losses import LossSettings
from sgflux.settings.optimizer import DEFAULT_EPOCHS
from sgflux.settings.training import TrainConfig
from tests.helpers.flags import settings_as_flags

FILES = ["--train-jsonl", "train.jsonl", "--val-jsonl", "val.jsonl", "--output-dir", "run"]


def test_every_setting_can_be_said_in_flags() -> None:
    config = parse_train_config(
        [*FILES, "--max-steps", "3", "--prompt-mix.empty", "2", "--compile"]
    )
    assert (config.optimizer.max_steps, config.blocks.compile) == (3, True)
    assert config.conditions.prompt_mix.empty == 2.0
    assert parse_train_config(settings_as_flags(config.to_json())) == config


def test_flags_override_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("lr = 0.5\nbatch_size = 3\ncompile = true\n[prompt_mix]\nempty = 1\n")
    config = parse_train_config([*FILES, "--lr", "0.25", "--config", str(file), "--no-compile"])
    assert (config.optimizer.lr, config.optimizer.batch_size, config.blocks.compile) == (
        0.25,
        3,
        False,
    )
    assert config.conditions.prompt_mix.empty == 1


def test_the_config_json_of_a_run_is_a_config_file(tmp_path: Path) -> None:
    config = TrainConfig.from_flat(train_jsonl="a", output_dir="b", max_steps=4)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config.to_json()))
    assert parse_train_config([f"--config={file}"]) == config


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr", "-1"], r"^lr must be greater than 0, got -1.0$"),
        (["--lora-rank", "0"], r"^lora_rank must be at least 1, got 0$"),
        (["--negatives.role-swap", "-1"], r"^negatives.role_swap must be >= 0, got -1.0$"),
        (["--prompt-mix.neutral", "0"], r"^prompt_mix: at least one weight"),
    ],
)
def test_a_bad_value_is_named(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_train_config([*FILES, *flags])


def test_flags_that_cannot_be_read_end_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_train_config([*FILES, "--lr", "fast"])
    assert stop.value.code == 2
    assert "--lr" in capsys.readouterr().err


def test_the_original_command_line_maps_onto_the_same_settings() -> None:
    config = parse_original(
        [
            *FILES, "--epochs", "20", "--batch-size", "2", "--lora-rank", "8",
            "--model-id", "tiny", "--device", "cpu", "--dtype", "fp32", "--graph-mode", "temb",
            "--block-start", "2", "--block-end", "4", "--lora-alpha", "4", "--lr", "0.01",
            "--height", "64", "--width", "48", "--images-dir", "pictures",
            "--graph-encoder", "native", "--t-min", "0.1", "--t-max", "0.9",
            "--latent-cache-dir", "cache", "--max-sequence-length", "16", "--log-every", "1",
            "--val-every", "2", "--save-every", "3", "--seed", "4", "--dry-run",
            "--resume", "auto", "--lambda-rel-rank", "0", "--alpha-gen-rel", "0.0",
        ]
    )  # fmt: skip
    assert config == TrainConfig.from_flat(
        train_jsonl="train.jsonl",
        val_jsonl="val.jsonl",
        output_dir="run",
        images_dir="pictures",
        epochs=20,
        batch_size=2,
        lora_rank=8,
        model_id="tiny",
        device="cpu",
        dtype="fp32",
        graph_mode="temb",
        block_start=2,
        block_end=4,
        lora_alpha=4,
        lr=0.01,
        height=64,
        width=48,
        graph_encoder="native",
        t_min=0.1,
        t_max=0.9,
        latent_cache_dir="cache",
        max_sequence_length=16,
        log_every=1,
        val_every=2,
        save_every=3,
        seed=4,
        dry_run=True,
        resume="auto",
    )


def test_without_further_flags_it_means_schnell_and_our_defaults() -> None:
    config = parse_original(FILES)
    assert config == TrainConfig.from_flat(
        train_jsonl="train.jsonl", val_jsonl="val.jsonl", output_dir="run"
    )
    assert config.model.model_id == "black-forest-labs/FLUX.1-schnell"
    assert DEFAULT_EPOCHS == 20


def test_the_script_takes_every_term_of_the_loss() -> None:
    flags = ["--lambda-rel-rank", "0.1", "--negatives-per-example", "3", "--lambda-anchor", "0.2"]
    config = parse_original([*FILES, *flags, "--alpha-gen-rel", "1", "--gen-rel-from", "boxes"])
    assert config.losses == LossSettings.from_flat(
        lambda_rel_rank=0.1,
        negatives_per_example=3,
        lambda_anchor=0.2,
        alpha_gen_rel=1.0,
        gen_rel_from="boxes",
    )


def test_the_original_flags_of_the_losses_mean_our_losses() -> None:
    flags = ["--lambda-rel-rank", "0.5", "--rel-rank-margin", "0.2", "--use-negative-graph"]
    config = parse_original([*FILES, *flags, "--alpha-gen-rel", "1"])
    assert config.losses == LossSettings.from_flat(
        lambda_rel_rank=0.5, rel_rank_margin=0.2, use_negative_graph=True, alpha_gen_rel=1.0
    )
    assert config.losses.ranking.ranker == "flow"


@pytest.mark.parametrize("flags", [["--rel-rank-margin", "0.2"], ["--use-negative-graph"]])
def test_a_flag_of_a_loss_that_is_off_is_refused(flags: list[str]) -> None:
    with pytest.raises(ConfigError, match="has no effect while lambda_rel_rank is 0"):
        parse_original([*FILES, *flags])


def test_an_error_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--train-jsonl", str(tmp_path / "no.jsonl"), "--output-dir", str(tmp_path / "run")]
    assert main(flags) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert "no.jsonl" in message
    assert not (tmp_path / "run").exists()
