"""A complete cache is enough: no encoder is loaded, and another encoder finds nothing in it.

If one of these failed, a run would load encoders that it does not need, or train on another
encoder's entries.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from sgflux.bases.digests import files_identity
from sgflux.bases.flux1.facts import encoder_facts
from sgflux.bases.flux1.family import Flux1
from sgflux.bases.flux1.load import load_autoencoder, load_text_encoders
from sgflux.bases.hub import model_folder
from sgflux.cli import main
from sgflux.commands.config_files import settings_of_files
from sgflux.data.cache.store import CacheStore
from sgflux.errors import SgfluxError
from sgflux.settings.caching import CacheConfig, cache_settings
from sgflux.settings.conditions import PromptMix
from sgflux.settings.files import shipped_configs
from sgflux.settings.flags import parse_flags
from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.settings.model_source import ModelSource
from sgflux.training.encoding.encode import Encoded
from sgflux.training.processes.processes import Processes
from sgflux.training.run.data import encode_data, plan_data, read_data


def say(text: str) -> None:
    """Take a line of the log."""


def encoded(config) -> Encoded:
    processes = Processes.start("cpu")
    splits = read_data(config, say=say)
    planned = plan_data(config, splits, processes=processes)
    return encode_data(config, splits, planned, processes=processes, say=say)


def batch_of(found: Encoded) -> list[torch.Tensor]:
    rows = torch.arange(len(found.train))
    kinds = torch.ones(len(rows), dtype=torch.int64)
    names = found.names.lookup(["man"])
    return [*found.train.posterior(rows), *found.train.text(rows, kinds).values(), names]


def test_a_complete_cache_gives_the_same_values_without_loading_an_encoder(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    in_memory = encoded(make_config(tmp_path / "run"))
    config = make_config(tmp_path / "run", latent_cache_dir=tmp_path / "cache")
    encoded(config)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(Flux1, "load_text_encoders", refuse)
    monkeypatch.setattr(Flux1, "load_autoencoder", refuse)
    from_disk = encoded(config)
    for expected, found in zip(batch_of(in_memory), batch_of(from_disk), strict=True):
        assert torch.equal(expected, found)
    assert from_disk.latent_scale == in_memory.latent_scale
    assert from_disk.text_tokens == in_memory.text_tokens


def test_a_run_finds_the_texts_of_its_own_form_alone(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    exact = encoded(make_config(tmp_path / "run"))
    smaller = {"latent_cache_dir": tmp_path / "cache", "text_cache": "int8"}
    encoded(make_config(tmp_path / "run", **smaller))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text encoder was loaded")

    monkeypatch.setattr(Flux1, "load_text_encoders", refuse)
    found = encoded(make_config(tmp_path / "run", **smaller))
    for index, (expected, own) in enumerate(zip(batch_of(exact), batch_of(found), strict=True)):
        assert torch.equal(expected, own) == (index != 2)  # mean, std, tokens, pooled, names
        assert torch.allclose(expected.float(), own.float(), rtol=0.02, atol=0.02)
    with pytest.raises(AssertionError, match="a text encoder was loaded"):
        encoded(make_config(tmp_path / "run", latent_cache_dir=tmp_path / "cache"))


def test_facts_are_those_of_the_loaded_encoders(flux: Path):
    facts = encoder_facts(ModelSource(model_id=str(flux)), max_sequence_length=None)
    text, pictures = (
        load_text_encoders(ModelSource(model_id=str(flux))),
        load_autoencoder(ModelSource(model_id=str(flux))),
    )
    assert facts.text_tokens == text.max_sequence_length
    assert facts.text_dim == text.text_encoder_2.config.d_model
    assert facts.downsample == pictures.downsample
    assert facts.latent_shift == pictures.vae.config.shift_factor
    assert facts.latent_scale == pictures.vae.config.scaling_factor
    with pytest.raises(SgfluxError, match="max_sequence_length must lie between 1 and"):
        encoder_facts(ModelSource(model_id=str(flux)), max_sequence_length=1000)


def test_one_changed_byte_of_an_encoder_changes_its_identity(flux: Path, tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(flux, model)
    before = files_identity(model, ["vae"])
    assert files_identity(flux, ["vae"]) == before
    (weights,) = (model / "vae").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(0, 0))
    assert files_identity(model, ["vae"]) != before
    with pytest.raises(SgfluxError, match="no files in 'nothing'"):
        files_identity(model, ["nothing"])


def test_a_model_that_is_not_here_is_named():
    with pytest.raises(SgfluxError, match=r"'nobody/nothing' cannot be loaded.*allow downloads"):
        model_folder("nobody/nothing", revision=None, allow_download=False, parts=("vae",))


def test_the_command_works_in_parts_verifies_and_rebuilds(
    flux: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "cache"
    common = ["--latent-cache-dir", str(folder), "--model-id", str(flux), "--device", "cpu"]
    common += ["--height", "16", "--width", "16", "--dtype", "fp32"]
    command = ["cache", str(scenes / "train.jsonl"), *common]
    for shard in "01":
        assert main([*command, "--num-shards", "2", "--shard", shard]) == 0
    assert "are left to other parts" not in capsys.readouterr().out.splitlines()[-1]
    assert main(command) == 0
    assert "; 0 encoded now" in capsys.readouterr().out
    assert main(["cache", "--latent-cache-dir", str(folder), "--verify"]) == 0

    victim = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    assert main(["cache", "--latent-cache-dir", str(folder), "--verify"]) == 1
    printed = capsys.readouterr()
    assert victim.stem in printed.err
    assert "1 shard is damaged" in printed.out
    assert "set aside as *.damaged" in printed.out
    assert main([*command, "--verify"]) == 0
    assert "; 0 encoded now" not in capsys.readouterr().out
    assert CacheStore(folder).verify() == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("flags", "losses"),
    [
        ([], LossSettings.from_flat()),
        (
            ["--negatives", "role_swap", "inverse"],
            LossSettings.from_flat(
                lambda_rel_rank=0.1,
                negatives=NegativeMix(role_swap=2.0, predicate=0.0, inverse=1.0),
            ),
        ),
    ],
    ids=["plain", "ranking"],
)
def test_the_command_encodes_all_that_a_run_will_ask_for(
    make_config, flux, scenes, tmp_path, monkeypatch, seed, flags, losses
):
    """Also what depends on the seed, on the other file, and on the losses."""
    folder = tmp_path / "cache"
    command = ["cache", str(scenes / "train.jsonl"), str(scenes / "val.jsonl")]
    command += ["--latent-cache-dir", str(folder), "--model-id", str(flux), "--device", "cpu"]
    command += ["--height", "16", "--width", "16", "--dtype", "fp32", "--seed", str(seed)]
    assert main([*command, *flags]) == 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(Flux1, "load_text_encoders", refuse)
    monkeypatch.setattr(Flux1, "load_autoencoder", refuse)
    encoded(make_config(tmp_path / "run", latent_cache_dir=folder, seed=seed, losses=losses))


@pytest.mark.parametrize(
    ("settings", "losses"),
    [
        ("", {}),
        (
            "[losses]\nlambda_rel_rank = 0.1\nlambda_words = 0\n"
            "negatives = { role_swap = 2, predicate = 0, inverse = 1 }",
            {
                "lambda_rel_rank": 0.1,
                "lambda_words": 0.0,
                "negatives": NegativeMix(role_swap=2.0, predicate=0.0, inverse=1.0),
            },
        ),
    ],
    ids=["plain", "ranking"],
)
def test_a_configuration_of_the_run_says_what_to_encode(
    make_config, flux, scenes, tmp_path, monkeypatch, settings, losses
):
    """The file of a run is enough: sizes, tokens, texts, negatives and seed follow from it."""
    folder, file = tmp_path / "cache", tmp_path / "run.toml"
    length = 12
    file.write_text(
        f"model_id = '{flux.as_posix()}'\nheight = 16\nwidth = 16\ndtype = 'fp32'\nseed = 3\n"
        f"max_sequence_length = {length}\nlr = 0.1\nprompt_mix = {{ empty = 1 }}\n{settings}"
    )
    command = ["cache", str(scenes / "train.jsonl"), str(scenes / "val.jsonl"), "--device", "cpu"]
    assert main([*command, "--latent-cache-dir", str(folder), "--config", str(file)]) == 0

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(Flux1, "load_text_encoders", refuse)
    monkeypatch.setattr(Flux1, "load_autoencoder", refuse)
    config = make_config(
        tmp_path / "run",
        latent_cache_dir=folder,
        seed=3,
        losses=LossSettings.from_flat(**losses),
        prompt_mix=PromptMix(empty=1.0),
        max_sequence_length=length,
    )
    encoded(config)


def test_flags_override_the_configuration_of_the_cache():
    found = cache_settings({"height": 16, "lr": 0.1, "prompt_mix": {"neutral": 0, "empty": 1}})
    assert found == {"height": 16, "prompts": ("empty", "relational")}
    assert cache_settings({"losses": {"lambda_words": 0}})["prompts"] == ("neutral",)
    files = ["a.jsonl", "--latent-cache-dir", "cache"]
    config = parse_flags(CacheConfig, files, defaults=found)
    assert (config.pictures.height, config.prompts) == (16, ("empty", "relational"))
    config = parse_flags(CacheConfig, [*files, "--height", "32"], defaults=found)
    assert (config.pictures.height, config.prompts) == (32, ("empty", "relational"))


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_configuration_that_comes_with_sgflux_serves_the_cache(name: str) -> None:
    settings, flags = settings_of_files(["a.jsonl", "--config", name, "--latent-cache-dir=c"])
    config = parse_flags(CacheConfig, flags, defaults=cache_settings(settings))
    assert config.max_sequence_length == settings.get("max_sequence_length")
    assert config.val_examples == settings.get("val_examples", 64)
    assert config.model.model_id == settings["model_id"]


def test_bad_divisions_of_the_work_are_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    common = ["cache", "a.jsonl", "--latent-cache-dir", str(tmp_path)]
    assert main([*common, "--num-shards", "2", "--shard", "2"]) == 2
    assert "shard must lie between 0 and num_shards - 1" in capsys.readouterr().err
    assert main(["cache", "--latent-cache-dir", str(tmp_path / "none"), "--verify"]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert main(["cache", "--latent-cache-dir", str(tmp_path)]) == 2
