"""An adapter's LoRA in other programs' files, and back; stronger, weaker, merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file

from sgflux.errors import SgfluxError
from sgflux.models.adapter import adapter_disabled
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.lora_formats import LORA_FORMATS, LoraWeights, read_lora, write_lora
from sgflux.models.lora_strength import merge_lora, scale_lora, unmerge_lora
from tests.models.test_adapter import GRAPHS, make_model, train_by_chance


def lora_of(state: dict[str, torch.Tensor], *, alpha: float) -> LoraWeights:
    lora = {n.removeprefix("lora."): v for n, v in state.items() if n.startswith("lora.")}
    return LoraWeights(weights=lora, alpha=alpha)


@pytest.mark.parametrize("targets", ["all", "image"])
@pytest.mark.parametrize("layout", LORA_FORMATS)
def test_every_layout_brings_back_the_same_numbers(
    flux_folder: Path, names: NameFeatures, tmp_path: Path, layout: Any, targets: str
) -> None:
    state = train_by_chance(make_model(flux_folder, names, lora_targets=targets))
    lora = lora_of(state, alpha=10.0)
    path = tmp_path / "lora.safetensors"
    write_lora(path, lora, layout=layout)
    again = read_lora(path)
    assert (again.alpha, again.rank) == (10.0, 4)
    assert again.weights.keys() == lora.weights.keys()
    assert all(torch.equal(value, lora.weights[name]) for name, value in again.weights.items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["lora.safetensors"]


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_plain_diffusers_draws_the_same_with_it(
    flux_folder: Path, names: NameFeatures, inputs: dict[str, Any], tmp_path: Path, layout: Any
) -> None:
    model = make_model(flux_folder, names, lora_alpha=10.0)
    state = train_by_chance(model)
    write_lora(tmp_path / "lora.safetensors", lora_of(state, alpha=10.0), layout=layout)
    pipeline = FluxPipeline.from_pretrained(flux_folder)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(
            pipeline.transformer(**inputs).sample, model(None, **inputs), rtol=1e-4, atol=1e-5
        )


def test_original_names_are_those_that_comfyui_and_kohya_know(
    flux_folder: Path, names: NameFeatures, tmp_path: Path
) -> None:
    state = train_by_chance(make_model(flux_folder, names))
    write_lora(tmp_path / "k.safetensors", lora_of(state, alpha=4.0), layout="kohya")
    kohya = load_file(tmp_path / "k.safetensors")
    assert kohya["lora_unet_double_blocks_3_img_attn_qkv.lora_down.weight"].shape == (12, 32)
    assert kohya["lora_unet_double_blocks_3_txt_attn_proj.lora_up.weight"].shape == (32, 4)
    assert kohya["lora_unet_double_blocks_3_img_attn_qkv.alpha"] == 12
    assert kohya["lora_unet_double_blocks_3_img_attn_proj.alpha"] == 4
    write_lora(tmp_path / "c.safetensors", lora_of(state, alpha=4.0), layout="comfyui")
    comfy = load_file(tmp_path / "c.safetensors")
    assert comfy["diffusion_model.double_blocks.4.txt_attn.qkv.lora_B.weight"].shape == (96, 12)
    assert len(comfy) == len(kohya) == 2 * 4 * 3


def test_what_does_not_fit_is_named(flux_folder: Path, names: NameFeatures, tmp_path: Path) -> None:
    lora = lora_of(train_by_chance(make_model(flux_folder, names)), alpha=4.0)
    with pytest.raises(SgfluxError, match=r"must end in \.safetensors"):
        write_lora(tmp_path / "lora.pt", lora, layout="kohya")
    without_k = {n: v for n, v in lora.weights.items() if ".to_k." not in n}
    with pytest.raises(SgfluxError, match=r"needs LoRA on transformer_blocks\.3\.attn\.to_k"):
        write_lora(
            tmp_path / "a.safetensors", LoraWeights(weights=without_k, alpha=4.0), layout="kohya"
        )
    half = {n: v for n, v in lora.weights.items() if not n.endswith("3.attn.to_q.lora_B.weight")}
    with pytest.raises(SgfluxError, match=r"3\.attn\.to_q\.lora_A\.weight has no .*lora_B"):
        LoraWeights(weights=half, alpha=4.0)
    path = tmp_path / "k.safetensors"
    write_lora(path, lora, layout="kohya")
    tensors = load_file(path)
    save_file({**tensors, "lora_te1_x.alpha": torch.ones(())}, path)
    with pytest.raises(SgfluxError, match=r"k\.safetensors: lora_te1_x\.alpha belongs to no"):
        read_lora(path)
    name = "lora_unet_double_blocks_3_img_attn_qkv.lora_up.weight"
    save_file({**tensors, name: torch.ones_like(tensors[name])}, path)
    with pytest.raises(SgfluxError, match="mixes query, key and value"):
        read_lora(path)
    save_file({"unet.conv.weight": torch.ones(1)}, path)
    with pytest.raises(SgfluxError, match=r"layout of 'unet\.conv\.weight' is none of"):
        read_lora(path)


def test_scaled_merged_and_switched_off(
    flux_folder: Path, names: NameFeatures, inputs: dict[str, Any]
) -> None:
    model = make_model(flux_folder, names)
    train_by_chance(model)
    model.requires_grad_(False)
    on = model(GRAPHS, **inputs)
    with adapter_disabled(model):
        base = model(None, **inputs)
    scale_lora(model, 0.0)
    assert torch.equal(model(None, **inputs), base)
    scale_lora(model, 0.5)
    assert not torch.allclose(model(GRAPHS, **inputs), on)
    scale_lora(model, 1.0)
    assert torch.equal(model(GRAPHS, **inputs), on)
    merge_lora(model)
    torch.testing.assert_close(model(GRAPHS, **inputs), on, rtol=1e-4, atol=1e-5)
    for again in (merge_lora, lambda model: scale_lora(model, 2.0)):
        with pytest.raises(SgfluxError, match="merged already"):
            again(model)
    unmerge_lora(model)
    torch.testing.assert_close(model(GRAPHS, **inputs), on, rtol=1e-4, atol=1e-5)
    with pytest.raises(SgfluxError, match="not merged"):
        unmerge_lora(model)
