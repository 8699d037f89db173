"""An adapter's LoRA in other programs' files, and back; stronger, weaker, merged.

If one of these failed, an exported LoRA would act with another strength in other programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from sgflux.bases.flux1.lora_formats import LORA_FORMATS, LoraWeights, read_lora, write_lora
from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.models.name_features import NameFeatures
from sgflux.settings.adapter import LoraTargets
from tests.helpers.models import make_model, train_by_chance


def lora_of(state: dict[str, torch.Tensor], *, alpha: float) -> LoraWeights:
    lora = {n.removeprefix("lora."): v for n, v in state.items() if n.startswith("lora.")}
    return LoraWeights.with_alpha(lora, alpha)


def products(lora: LoraWeights) -> dict[str, torch.Tensor]:
    """What each layer adds to its matrix."""
    return {
        module: (lora.alphas[module] / lora.ranks[module])
        * lora.weights[f"{module}.lora_B.weight"]
        @ lora.weights[f"{module}.lora_A.weight"]
        for module in lora.modules
    }


@pytest.mark.parametrize("targets", get_args(LoraTargets))
@pytest.mark.parametrize("layout", LORA_FORMATS)
def test_every_layout_brings_back_the_same_effect(
    flux_folder: Path, names: NameFeatures, tmp_path: Path, layout: Any, targets: str
) -> None:
    state = train_by_chance(make_model(flux_folder, names, lora_targets=targets))
    lora = lora_of(state, alpha=10.0)
    path = tmp_path / "lora.safetensors"
    write_lora(path, lora, layout=layout)
    again = read_lora(path)
    assert (again.alpha, again.rank) == (10.0 if layout == "kohya" else 4.0, 4)
    torch.testing.assert_close(products(again), products(lora), rtol=1e-6, atol=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lora.safetensors"]
    write_lora(path, lora_of(state, alpha=4.0), layout=layout)
    again = read_lora(path)
    assert all(torch.equal(value, lora.weights[name]) for name, value in again.weights.items())


# --- what other programs make of a file ---------------------------------------------------------
#
# Their arithmetic, as it was found in their code and checked with it on these very files: a layer's
# strength is alpha / rank where a tensor <layer>.alpha lies beside its matrices, and 1 where none
# does. None of them reads an alpha from the header; sd-scripts takes an alpha of 0 for the rank.


def strength_elsewhere(
    tensors: dict[str, torch.Tensor], layer: str, down: str, up: str
) -> torch.Tensor:
    """What such a program adds to the matrix of a layer."""
    a, b = tensors[f"{layer}.{down}"], tensors[f"{layer}.{up}"]
    alpha = float(tensors.get(f"{layer}.alpha", torch.tensor(a.shape[0]))) or a.shape[0]
    return alpha / a.shape[0] * b @ a


LAYERS_ELSEWHERE = {
    "kohya": ("lora_unet_double_blocks_3_img_attn_qkv", "lora_down.weight", "lora_up.weight"),
    "comfyui": ("diffusion_model.double_blocks.3.img_attn.qkv", "lora_A.weight", "lora_B.weight"),
    "diffusers": ("transformer.transformer_blocks.3.attn.to_q", "lora_A.weight", "lora_B.weight"),
}


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0, -2.0])
@pytest.mark.parametrize("alpha", [1.6, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("layout", LORA_FORMATS)
def test_every_program_applies_a_file_as_strongly_as_it_was_trained(
    tmp_path: Path, layout: Any, alpha: float, scale: float
) -> None:
    """Rank 4, so that alphas of 1.6, 2 and 8 acted 0.4, 0.5 and 2 times too strongly elsewhere."""
    generator = torch.Generator().manual_seed(1)
    parts = [f"transformer_blocks.3.attn.{part}" for part in ("to_q", "to_k", "to_v")]
    weights = {}
    for part in parts:
        weights[f"{part}.lora_A.weight"] = torch.randn(4, 6, generator=generator)
        weights[f"{part}.lora_B.weight"] = torch.randn(6, 4, generator=generator)
    lora = LoraWeights.with_alpha(weights, alpha)
    write_lora(tmp_path / "x.safetensors", lora.scaled(scale), layout=layout)
    tensors = load_file(tmp_path / "x.safetensors")
    expected = torch.cat(
        [
            scale * alpha / 4 * weights[f"{p}.lora_B.weight"] @ weights[f"{p}.lora_A.weight"]
            for p in parts
        ]
    )
    if layout == "diffusers":
        expected = expected[:6]
    torch.testing.assert_close(strength_elsewhere(tensors, *LAYERS_ELSEWHERE[layout]), expected)


def test_a_file_says_its_rank_and_alpha_as_other_programs_look_for_them(tmp_path: Path) -> None:
    part = "transformer_blocks.3.attn.to_out.0"
    weights = {f"{part}.lora_A.weight": torch.ones(4, 6), f"{part}.lora_B.weight": torch.ones(6, 4)}
    for layout, alpha in (("kohya", "2"), ("comfyui", "4"), ("diffusers", "4")):
        path = tmp_path / f"{layout}.safetensors"
        lora = LoraWeights.with_alpha(weights, 2.0)
        write_lora(path, lora, layout=layout, header={"ss_base_model_version": "flux1"})
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        assert header["ss_network_dim"] == "4"
        assert header["ss_network_alpha"] == alpha
        assert header["ss_base_model_version"] == "flux1"
        assert ("ss_network_module" in header) == (layout == "kohya")


@pytest.mark.parametrize(
    ("layout", "targets"),
    [
        *(("diffusers", targets) for targets in get_args(LoraTargets)),
        # diffusers reads a single block in kohya's layout at the width of the real FLUX.1 alone.
        *(("kohya", targets) for targets in get_args(LoraTargets) if "single" not in targets),
    ],
)
def test_plain_diffusers_draws_the_same_with_it(
    flux_folder: Path,
    names: NameFeatures,
    inputs: FluxInputs,
    tmp_path: Path,
    layout: Any,
    targets: str,
) -> None:
    model = make_model(flux_folder, names, lora_alpha=10.0, lora_targets=targets)
    state = train_by_chance(model)
    write_lora(tmp_path / "lora.safetensors", lora_of(state, alpha=10.0), layout=layout)
    pipeline = FluxPipeline.from_pretrained(flux_folder)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(
            pipeline.transformer(**vars(inputs)).sample, model(None, inputs), rtol=1e-4, atol=1e-5
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
    state = train_by_chance(make_model(flux_folder, names, lora_targets="all+ff+single"))
    write_lora(tmp_path / "k.safetensors", lora_of(state, alpha=4.0), layout="kohya")
    kohya = load_file(tmp_path / "k.safetensors")
    assert kohya["lora_unet_double_blocks_3_img_mlp_0.lora_up.weight"].shape == (128, 4)
    assert kohya["lora_unet_double_blocks_3_img_mlp_2.lora_down.weight"].shape == (4, 128)
    assert kohya["lora_unet_single_blocks_0_linear1.lora_down.weight"].shape == (16, 32)
    assert kohya["lora_unet_single_blocks_0_linear1.lora_up.weight"].shape == (3 * 32 + 128, 16)
    assert kohya["lora_unet_single_blocks_0_linear1.alpha"] == 16
    assert kohya["lora_unet_single_blocks_0_linear2.lora_down.weight"].shape == (4, 5 * 32)


def test_what_does_not_fit_is_named(flux_folder: Path, names: NameFeatures, tmp_path: Path) -> None:
    lora = lora_of(train_by_chance(make_model(flux_folder, names)), alpha=4.0)
    with pytest.raises(SgfluxError, match=r"must end in \.safetensors"):
        write_lora(tmp_path / "lora.pt", lora, layout="kohya")
    without_k = {n: v for n, v in lora.weights.items() if ".to_k." not in n}
    with pytest.raises(SgfluxError, match=r"needs LoRA on transformer_blocks\.3\.attn\.to_k"):
        write_lora(
            tmp_path / "a.safetensors", LoraWeights.with_alpha(without_k, 4.0), layout="kohya"
        )
    half = {n: v for n, v in lora.weights.items() if not n.endswith("3.attn.to_q.lora_B.weight")}
    with pytest.raises(SgfluxError, match=r"3\.attn\.to_q\.lora_A\.weight has no .*lora_B"):
        LoraWeights.with_alpha(half, 4.0)
