"""LoRA files of other trainers: every layout, every layer's own alpha, and what is refused.

If one of these failed, somebody else's LoRA would be read with a wrong alpha or layer, without an
error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sgflux.bases.flux1.lora_formats import METADATA_KEY, read_lora
from sgflux.errors import SgfluxError

WIDTH, RANK = 8, 3
Q = "transformer_blocks.7.attn.to_q"


def pair(rows: int = WIDTH, columns: int = WIDTH, rank: int = RANK) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows + columns)
    return (
        torch.randn(rank, columns, generator=generator),
        torch.randn(rows, rank, generator=generator),
    )


def written(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> Path:
    save_file({name: value.clone() for name, value in tensors.items()}, path, header)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lora.safetensors"


@pytest.mark.parametrize(
    ("layer", "endings", "module"),
    [
        (f"transformer.{Q}", ("lora_A.weight", "lora_B.weight"), Q),
        (Q, ("lora_A.weight", "lora_B.weight"), Q),
        (f"transformer.{Q}", ("lora_down.weight", "lora_up.weight"), Q),
        (f"transformer.{Q}", ("lora.down.weight", "lora.up.weight"), Q),
        (f"base_model.model.{Q}", ("lora_A.default.weight", "lora_B.default.weight"), Q),
        (
            "lora_transformer_transformer_blocks_7_attn_to_q",
            ("lora_down.weight", "lora_up.weight"),
            Q,
        ),
        ("lycoris_transformer_blocks_7_attn_to_q", ("lora_down.weight", "lora_up.weight"), Q),
        (
            "lora_transformer_single_transformer_blocks_11_proj_mlp",
            ("lora_down.weight", "lora_up.weight"),
            "single_transformer_blocks.11.proj_mlp",
        ),
        (
            "lora_unet_double_blocks_18_txt_attn_proj",
            ("lora_down.weight", "lora_up.weight"),
            "transformer_blocks.18.attn.to_add_out",
        ),
        (
            "lora_unet_double_blocks_0_img_mlp_2",
            ("lora_down.weight", "lora_up.weight"),
            "transformer_blocks.0.ff.net.2",
        ),
        (
            "diffusion_model.double_blocks.3.img_mod.lin",
            ("lora_A.weight", "lora_B.weight"),
            "transformer_blocks.3.norm1.linear",
        ),
        (
            "base_model.model.single_blocks.5.linear2",
            ("lora_A.weight", "lora_B.weight"),
            "single_transformer_blocks.5.proj_out",
        ),
        (
            "double_blocks.2.processor.proj_lora2",
            ("down.weight", "up.weight"),
            "transformer_blocks.2.attn.to_add_out",
        ),
        (
            "lora_unet_vector_in_in_layer",
            ("lora_down.weight", "lora_up.weight"),
            "time_text_embed.text_embedder.linear_1",
        ),
    ],
)
def test_a_layer_is_found_under_every_programs_name(
    file: Path, layer: str, endings: tuple[str, str], module: str
) -> None:
    down, up = pair()
    tensors = {f"{layer}.{endings[0]}": down, f"{layer}.{endings[1]}": up}
    lora = read_lora(written(file, tensors))
    assert lora.modules == (module,)
    assert lora.alphas == {module: RANK}
    assert torch.equal(lora.weights[f"{module}.lora_A.weight"], down)
    assert torch.equal(lora.weights[f"{module}.lora_B.weight"], up)
    alpha = {f"{layer}.alpha": torch.tensor(1.5)}
    assert read_lora(written(file, tensors | alpha)).alphas == {module: 1.5}


def test_every_layer_has_its_own_alpha_and_rank(file: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for part, rank in (("to_q", 2), ("to_k", 4), ("to_v", 4)):
        down, up = pair(rank=rank)
        tensors[f"transformer.transformer_blocks.0.attn.{part}.lora_A.weight"] = down
        tensors[f"transformer.transformer_blocks.0.attn.{part}.lora_B.weight"] = up
    tensors["transformer.transformer_blocks.0.attn.to_q.alpha"] = torch.tensor(1.0)
    lora = read_lora(written(file, tensors))
    names = [f"transformer_blocks.0.attn.{part}" for part in ("to_q", "to_k", "to_v")]
    assert lora.alphas == dict(zip(names, (1.0, 4.0, 4.0), strict=True))
    assert lora.ranks == dict(zip(names, (2, 4, 4), strict=True))
    folded = lora.folded()
    assert folded.alphas == {name: float(rank) for name, rank in lora.ranks.items()}
    up = f"{names[0]}.lora_B.weight"
    assert torch.equal(folded.weights[up], 0.5 * lora.weights[up])
    for name in names[1:]:
        up = f"{name}.lora_B.weight"
        assert torch.equal(folded.weights[up], lora.weights[up])


def test_alphas_of_the_header_are_each_layers_own(file: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for part in ("to_q", "to_k"):
        tensors[f"transformer.transformer_blocks.0.attn.{part}.lora_A.weight"] = pair(rank=4)[0]
        tensors[f"transformer.transformer_blocks.0.attn.{part}.lora_B.weight"] = pair(rank=4)[1]
    settings = {
        "transformer.lora_alpha": 8,
        "transformer.alpha_pattern": {"^transformer_blocks.0.attn.to_k": 1},
    }
    q, k = "transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k"
    written(file, tensors, {METADATA_KEY: json.dumps(settings)})
    assert read_lora(file).alphas == {q: 8.0, k: 1.0}
    written(file, tensors, {METADATA_KEY: json.dumps({**settings, "transformer.use_rslora": True})})
    assert read_lora(file).alphas == {q: 16.0, k: 2.0}
    written(file, tensors, {METADATA_KEY: json.dumps({"transformer.use_dora": True})})
    with pytest.raises(SgfluxError, match="use_dora: DoRA is no LoRA"):
        read_lora(file)
    written(file, tensors, {METADATA_KEY: "{"})
    with pytest.raises(SgfluxError, match=rf"lora\.safetensors: its header's {METADATA_KEY} is no"):
        read_lora(file)


def test_one_lora_over_query_key_and_value_is_taken_apart_exactly(file: Path) -> None:
    """Block-diagonal or not: what is added to each matrix is what the file adds to its rows."""
    for rank in (3, 6, 4):
        down, up = pair(rows=3 * WIDTH, rank=rank)
        stem = "lora_unet_double_blocks_1_img_attn_qkv"
        tensors = {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(2.0),
        }
        lora = read_lora(written(file, tensors)).folded()
        added = (2.0 / rank) * up @ down
        for index, part in enumerate(("to_q", "to_k", "to_v")):
            module = f"transformer_blocks.1.attn.{part}"
            own = lora.weights[f"{module}.lora_B.weight"] @ lora.weights[f"{module}.lora_A.weight"]
            rows = slice(index * WIDTH, (index + 1) * WIDTH)
            torch.testing.assert_close(own, added[rows])
    single = "lora_unet_single_blocks_2_linear1"
    down, up = pair(rows=7 * WIDTH)
    lora = read_lora(
        written(file, {f"{single}.lora_down.weight": down, f"{single}.lora_up.weight": up})
    )
    assert lora.weights["single_transformer_blocks.2.proj_mlp.lora_B.weight"].shape == (32, RANK)
    own = lora.weights["single_transformer_blocks.2.attn.to_k.lora_B.weight"]
    assert torch.equal(own, up[WIDTH : 2 * WIDTH])


def test_the_last_norms_halves_are_swapped(file: Path) -> None:
    down, up = pair(rows=2 * WIDTH)
    stem = "lora_unet_final_layer_adaLN_modulation_1"
    lora = read_lora(
        written(file, {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up})
    )
    expected = torch.cat([up[WIDTH:], up[:WIDTH]])
    assert torch.equal(lora.weights["norm_out.linear.lora_B.weight"], expected)


def test_layers_of_a_text_encoder_that_do_nothing_are_passed_over(file: Path) -> None:
    down, up = pair()
    tensors = {
        f"transformer.{Q}.lora_A.weight": down,
        f"transformer.{Q}.lora_B.weight": up,
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": down,
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros_like(up),
    }
    assert read_lora(written(file, tensors)).modules == (Q,)


DOWN, UP = pair()
GOOD = {f"transformer.{Q}.lora_A.weight": DOWN, f"transformer.{Q}.lora_B.weight": UP}
K = Q.replace("to_q", "to_k")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_down.weight": DOWN,
             "lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_up.weight": UP},
            r"lora_te3_.*also changes the text encoders \(1 layer; this one is T5's\)",
        ),
        (
            {"lora_te2_encoder_block_0_layer_0_SelfAttention_k.lora_down.weight": DOWN,
             "lora_te2_encoder_block_0_layer_0_SelfAttention_k.lora_up.weight": UP},
            r"also changes the text encoders \(1 layer; this one is T5's\)",
        ),
        (
            {"lora_te1_text_model_x.lora_down.weight": DOWN,
             "lora_te1_text_model_x.lora_up.weight": UP},
            "this one is CLIP's",
        ),
        (
            {"lora_transformer_distilled_guidance_layer_in_proj.lora_down.weight": DOWN},
            "is no layer of FLUX.1's transformer; it looks like a LoRA of Chroma",
        ),
        (
            {"lora_unet_down_blocks_0_attentions_0.lora_down.weight": DOWN},
            "it looks like a LoRA of Stable Diffusion",
        ),
        ({"something.else.lora_A.weight": DOWN}, "something.else is no layer of FLUX.1's"),
        ({"unet.conv.weight": DOWN}, "unet.conv.weight is no key of a LoRA"),
        ({f"transformer.{Q}.dora_scale": DOWN}, "DoRA is no LoRA"),
        ({f"transformer.{Q}.lora_magnitude_vector": DOWN}, "DoRA is no LoRA"),
        ({f"lycoris_{K}.lokr_w1": DOWN}, "LoKr is no LoRA"),
        ({f"lycoris_{K}.hada_w1_a": DOWN}, "LoHa is no LoRA"),
        ({f"diffusion_model.{K}.diff_b": DOWN}, "a change of whole weights is no LoRA"),
        ({f"transformer.{K}.lora_B.bias": DOWN}, "LoRA with a bias is no LoRA"),
        ({f"transformer.{Q}.lora_B.weight": torch.full((8, 3), torch.nan)}, "not finite"),
        ({f"transformer.{Q}.lora_A.weight": torch.full((3, 8), torch.inf)}, "not finite"),
        ({f"transformer.{Q}.alpha": torch.tensor(0.0)}, "to_q: alpha is 0, expected a finite"),
        ({f"transformer.{Q}.alpha": torch.tensor(torch.nan)}, "not finite"),
        ({f"transformer.{Q}.alpha": torch.ones(2)}, r"its alpha is \(2,\), not a number"),
        ({f"transformer.{K}.alpha": torch.tensor(1.0)}, "has no lora_A .* beside its alpha"),
        ({f"transformer.{K}.lora_A.weight": DOWN}, "to_k: has no lora_B"),
        ({f"transformer.{Q}.lora_B.weight": torch.ones(8, 5)}, "which do not fit together"),
        (
            {"lora_transformer_transformer_blocks_7_attn_to_q.lora_down.weight": DOWN,
             "lora_transformer_transformer_blocks_7_attn_to_q.lora_up.weight": UP},
            "has a LoRA in this file already",
        ),
    ],
)  # fmt: skip
def test_what_is_no_lora_of_flux_is_named(
    file: Path, changes: dict[str, Tensor], message: str
) -> None:
    written(file, {**GOOD, **changes})
    with pytest.raises(SgfluxError, match=rf"lora\.safetensors: .*{message}"):
        read_lora(file)


def test_a_header_that_names_another_family_is_believed(file: Path) -> None:
    for header in (
        {"modelspec.architecture": "chroma/lora"},
        {"ss_base_model_version": "sdxl_base_v1-0"},
        {"ss_base_model_version": "flux2"},
    ):
        with pytest.raises(SgfluxError, match=r"its header says .* it is no LoRA of FLUX\.1"):
            read_lora(written(file, GOOD, header))
    for header in (
        {"modelspec.architecture": "flux-1-dev/lora"},
        {"ss_base_model_version": "flux1"},
        {"modelspec.architecture": "Flux.1-dev"},
    ):
        assert read_lora(written(file, GOOD, header)).modules == (Q,)


def test_a_damaged_or_empty_file_is_named(file: Path) -> None:
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(SgfluxError, match=r"lora\.safetensors: is a git-lfs pointer"):
        read_lora(file)
    save_file({}, file)
    with pytest.raises(SgfluxError, match=r"it has no LoRA weight of FLUX\.1's transformer"):
        read_lora(file)
