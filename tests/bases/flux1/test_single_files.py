"""FLUX's encoders in files of their own are the same encoders, bit for bit.

If one of these failed, text encoders or an autoencoder from single files would give other
features than those of the diffusers folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.load import load_autoencoder, load_scheduler, load_text_encoders
from sgflux.bases.flux1.parts import settings_in_file
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from tests.helpers.single_files import (
    SingleFiles,
    make_autoencoder,
    make_clip,
    make_t5,
    make_tokenizers,
    write_single_files,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SingleFiles:
    return write_single_files(tmp_path_factory.mktemp("single") / "files")


def source(files: SingleFiles, **changes: Any) -> ModelSource:
    return ModelSource(**{**files.flags(), **changes})


def test_the_autoencoder(files: SingleFiles) -> None:
    plain = make_autoencoder()
    loaded = load_autoencoder(source(files))
    for name, value in plain.state_dict().items():
        assert torch.equal(loaded.vae.state_dict()[name], value), name
    for name in ("scaling_factor", "shift_factor", "block_out_channels", "latent_channels"):
        mine, theirs = loaded.vae.config[name], plain.config[name]
        assert (list(mine) == list(theirs)) if isinstance(mine, list | tuple) else mine == theirs
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        expected = plain.encode(images).latent_dist
        mean, std = loaded.posterior(images)
        assert torch.equal(mean, expected.mean)
        assert torch.equal(std, expected.std)
        assert torch.equal(loaded.vae.decode(mean).sample, plain.decode(expected.mean).sample)
    assert load_autoencoder(source(files), dtype=torch.bfloat16).vae.dtype == torch.bfloat16
    assert settings_in_file("vae", files.autoencoder)["block_out_channels"] == [32, 64]


def test_the_text_encoders(files: SingleFiles) -> None:
    tokenizer, tokenizer_2 = make_tokenizers()
    clip = make_clip(len(tokenizer), tokenizer.eos_token_id)
    t5 = make_t5(len(tokenizer_2)).half().float()
    loaded = load_text_encoders(source(files))
    prompts = ["a photo of man and horse", "a dog"]
    features = loaded.encode(prompts)
    ids = tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    ids_2 = tokenizer_2(prompts, padding="max_length", max_length=32, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(features["pooled"], clip(ids).pooler_output)
        assert torch.equal(features["hidden"], t5(ids_2)[0])
    assert loaded.encode_names(["man", "riding"]).shape == (2, 32)
    assert not any(p.requires_grad for p in loaded.text_encoder_2.parameters())
    assert settings_in_file("text_encoder", files.text_encoder)["num_hidden_layers"] == 2
    assert settings_in_file("text_encoder_2", files.text_encoder_2)["num_heads"] == 4


def test_the_scheduler_follows_the_transformer(files: SingleFiles, tmp_path: Path) -> None:
    assert load_scheduler(source(files)).scheduler.config.use_dynamic_shifting is False
    dev = write_single_files(tmp_path / "dev", guidance_embeds=True)
    config = load_scheduler(source(dev)).scheduler.config
    assert (config.use_dynamic_shifting, config.base_shift, config.max_shift) == (True, 0.5, 1.15)


def test_what_is_wrong_is_named(files: SingleFiles, tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"

    def changed(source: Path, **changes: torch.Tensor | None) -> Path:
        weights = {**load_file(source), **changes}
        save_file({name: value for name, value in weights.items() if value is not None}, path)
        return path

    lacking = {"decoder.up.1.block.0.conv1.bias": None}
    with pytest.raises(SgfluxError, match=r"up_blocks\.0\.resnets\.0\.conv1\.bias is missing"):
        load_autoencoder(source(files, autoencoder=changed(files.autoencoder, **lacking)))
    odd = changed(files.autoencoder, **{"quant.weight": torch.ones(1)})
    with pytest.raises(SgfluxError, match=r"part\.safetensors: .*autoencoder has no .quant"):
        load_autoencoder(source(files, autoencoder=odd))
    scaled = {"encoder.block.0.layer.1.DenseReluDense.wo.scale": torch.ones(1)}
    with pytest.raises(SgfluxError, match=r"wo\.scale is \(1,\), but such a model has none"):
        load_text_encoders(source(files, text_encoder_2=changed(files.text_encoder_2, **scaled)))
    with pytest.raises(SgfluxError, match=r"clip_l\.safetensors: .*another kind.*shared\.weight"):
        load_text_encoders(source(files, text_encoder_2=files.text_encoder))
    with pytest.raises(SgfluxError, match=r"gone\.safetensors: cannot be read"):
        load_text_encoders(source(files, text_encoder=tmp_path / "gone.safetensors"))


def test_tokenizers_of_another_model_are_refused(files: SingleFiles, flux_folder: Path) -> None:
    with pytest.raises(SgfluxError, match=r"has 172 tokens, but its text encoder embeds"):
        load_text_encoders(source(files, components=str(flux_folder)))


def test_unused_halves_are_passed_over(files: SingleFiles, tmp_path: Path) -> None:
    clip = load_file(files.text_encoder) | {"text_projection.weight": torch.ones(64, 64)}
    t5 = load_file(files.text_encoder_2)
    t5["encoder.embed_tokens.weight"] = t5["shared.weight"].clone()
    save_file(clip, tmp_path / "clip.safetensors")
    save_file(t5, tmp_path / "t5.safetensors")
    one, other = (
        load_text_encoders(source(files, text_encoder=a, text_encoder_2=b)).encode(["dog"])
        for a, b in (
            (files.text_encoder, files.text_encoder_2),
            (tmp_path / "clip.safetensors", tmp_path / "t5.safetensors"),
        )
    )
    assert torch.equal(one["hidden"], other["hidden"])
    assert torch.equal(one["pooled"], other["pooled"])
