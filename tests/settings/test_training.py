"""Settings: what is accepted, what is refused and in which words, and the way to JSON and back.

If one of these failed, a setting would be accepted and have no effect, or would change on its way
to JSON and back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgflux.settings.checks import ConfigError
from sgflux.settings.conditions import PromptMix
from sgflux.settings.losses import LossSettings
from sgflux.settings.training import TrainConfig, read_settings


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_flat(
        **{"train_jsonl": "train.jsonl", "val_jsonl": "val.jsonl", "output_dir": "run", **changes}
    )


def test_json_round_trip_keeps_every_setting() -> None:
    original = config(
        max_steps=7, prompt_mix=PromptMix(neutral=1, relational=2), images_dir="/pictures", lr=1
    )
    assert TrainConfig.from_flat(**json.loads(json.dumps(original.to_json()))) == original


def test_values_have_the_declared_types_whatever_they_came_as() -> None:
    built = config(lr=1, output_dir="run", prompt_mix={"empty": 1})
    assert isinstance(built.optimizer.lr, float)
    assert built.run.output_dir == Path("run")
    assert built.conditions.prompt_mix.kinds() == ("neutral", "empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0}, "lr must be greater than 0, got 0.0"),
        ({"lr": "fast"}, "lr must be a finite number, got 'fast'"),
        ({"lr": float("nan")}, "lr must be a finite number"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        ({"batch_size": True}, "batch_size must be a whole number, got True"),
        ({"dry_run": 1}, "dry_run must be true or false, got 1"),
        ({"graph_mode": "tokens"}, "graph_mode must be one of 'token', 'temb', got 'tokens'"),
        ({"null_graph_probability": 1}, "null_graph_probability must be at least 0 and less than"),
        ({"t_min": 0.5, "t_max": 0.5}, "0 <= t_min < t_max <= 1, got 0.5 and 0.5"),
        ({"block_start": 3}, "block_start and block_end belong together"),
        ({"block_start": 3, "block_end": 3}, "0 <= block_start < block_end, got 3 and 3"),
        ({"prompt_mix": {"neutral": 0}}, "prompt_mix: at least one weight"),
        ({"prompt_mix": {"empty": -1}}, "prompt_mix.empty must be >= 0"),
        ({"prompt_mix": {"neural": 1}}, "unknown setting 'neural'; did you mean 'neutral'"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2, "max_steps": 5}, "both set the length of the run"),
        ({"max_steps": 5, "warmup_steps": 5}, "warmup_steps .5. must be less than max_steps .5."),
        ({"cgip_ckpt": "a.pt", "graph_encoder": "native"}, "cgip_ckpt .* has no effect"),
        (
            {"vocab_path": "v.json"},
            "vocab_path .'v.json'. has no effect with the native graph encoder",
        ),
        ({"graph_encoder": "cgip"}, "'cgip' needs cgip_ckpt"),
        ({"cgip_ckpt": "a.pt", "number_triples": False}, r"number_triples \(False\) has no effect"),
        ({"val_jsonl": None, "val_every": 5}, r"val_every \(5\) has no effect without val_jsonl"),
        ({"val_jsonl": None, "select_by": "ranking_accuracy"}, "select_by .* has no effect"),
        ({"save_every": 0, "keep_checkpoints": 1}, "keep_checkpoints .* with save_every 0"),
        ({"early_stopping_min_delta": 0.1}, "min_delta .* without early_stopping_patience"),
        ({"early_stopping_patience": 2}, "early_stopping_patience needs .* 'last'"),
        (
            {"early_stopping_patience": 2, "val_every": 0, "select_by": "val_loss"},
            "early_stopping_patience has no effect with val_every 0",
        ),
    ],
)
def test_a_setting_without_effect_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_the_encoder_follows_from_the_checkpoint() -> None:
    assert config().encoder.kind == "native"
    assert config(cgip_ckpt="sip_vg.pt").encoder.kind == "cgip"


def test_settings_with_an_unknown_or_missing_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'batchsize'; did you mean 'batch_size'"):
        TrainConfig.from_flat(train_jsonl="a", output_dir="b", batchsize=1)
    with pytest.raises(ConfigError, match="'adapter'; its settings stand beside the others, witho"):
        TrainConfig.from_flat(train_jsonl="a", output_dir="b", adapter={"lora_rank": 4})
    with pytest.raises(ConfigError, match="missing settings: train_jsonl, output_dir"):
        TrainConfig.from_flat()


def test_files_of_settings_name_themselves_in_errors(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("lr = 0.001\n[prompt_mix]\nempty = 1\n")
    assert read_settings(toml) == {"lr": 0.001, "prompt_mix": {"empty": 1}}
    toml.write_text("learning_rate = 0.001\n")
    with pytest.raises(ConfigError, match=r"a\.toml: unknown setting 'learning_rate'"):
        read_settings(toml)
    toml.write_text("lr = \n")
    with pytest.raises(ConfigError, match=r"a\.toml: "):
        read_settings(toml)
    with pytest.raises(ConfigError, match=r"b\.json: cannot be read"):
        read_settings(tmp_path / "b.json")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.*")), ids=lambda path: path.name
)
def test_the_configs_that_we_ship_are_valid(path: Path) -> None:
    paths = {"train_jsonl": "a", "val_jsonl": "b", "output_dir": "c"}
    TrainConfig.from_flat(**paths | read_settings(path))


def test_a_run_that_gives_the_flow_matching_error_up_is_not_selected_by_it() -> None:
    plain = {"train_jsonl": "a", "val_jsonl": "b", "output_dir": "c"}
    without = LossSettings.from_flat(lambda_words=0)
    assert TrainConfig.from_flat(**plain).selection == "last"
    assert TrainConfig.from_flat(**plain, losses=without).selection == "val_loss"
    assert TrainConfig.from_flat(**plain, select_by="val_loss").selection == "val_loss"
