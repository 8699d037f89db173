"""ComfyUI's 8-bit files are the weights times their factors, for the transformer and for T5.

If one of these failed, a file with scaled 8-bit weights would load as weights of the wrong size,
without an error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgflux.bases.flux1.load import load_text_encoders, load_transformer
from sgflux.bases.flux1.parts import part_in_file, settings_in_file
from sgflux.bases.weight_files import read_weights
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from tests.helpers.single_files import SingleFiles, write_single_files

FP8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SingleFiles:
    return write_single_files(tmp_path_factory.mktemp("single") / "files")


def scaled(path: Path, out: Path, *, later: bool = False, prefix: str = "") -> dict[str, Tensor]:
    """Write a file's matrices in 8 bits with a factor each; what they are then worth, in bf16."""
    tensors: dict[str, Tensor] = {}
    worth: dict[str, Tensor] = {}
    for name, value in load_file(path).items():
        if not (name.endswith(".weight") and value.ndim == 2 and "block" in name):
            tensors[prefix + name] = worth[name] = value.half()
            continue
        factor = value.float().abs().max() / 448
        small = (value.float() / factor).to(FP8)
        layer = prefix + name.removesuffix(".weight")
        worth[name] = (small.float() * factor).bfloat16()
        tensors[f"{layer}.weight"] = small
        tensors[f"{layer}.{'weight_scale' if later else 'scale_weight'}"] = factor
        tensors[f"{layer}.{'input_scale' if later else 'scale_input'}"] = torch.ones(())
        if later:
            text = json.dumps({"format": "float8_e4m3fn"}).encode()
            tensors[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    if not later:
        tensors[f"{prefix}scaled_fp8"] = torch.empty(0, dtype=FP8)
    save_file(tensors, out)
    assert sum(value.dtype == FP8 for value in tensors.values()) > 10
    return worth


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_transformer_in_scaled_fp8(
    files: SingleFiles, tmp_path: Path, prefix: str, later: bool
) -> None:
    small, plain = tmp_path / "fp8.sft", tmp_path / "plain.safetensors"
    worth = scaled(files.transformer, small, later=later, prefix=prefix)
    save_file(worth, plain)
    found = load_transformer(
        ModelSource(model_id=str(small), components="tiny"), dtype=torch.float32
    ).state_dict()
    expected = load_transformer(
        ModelSource(model_id=str(plain), components="tiny"), dtype=torch.float32
    ).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert settings_in_file("transformer", small) == settings_in_file(
        "transformer", files.transformer
    )


@pytest.mark.parametrize("later", [False, True])
def test_t5_in_scaled_fp8(files: SingleFiles, tmp_path: Path, later: bool) -> None:
    small, plain = tmp_path / "t5.safetensors", tmp_path / "plain.safetensors"
    worth = scaled(files.text_encoder_2, small, later=later)
    save_file({**worth, "spiece_model": torch.zeros(7, dtype=torch.uint8)}, plain)
    texts = [
        load_text_encoders(ModelSource(**{**files.flags(), "text_encoder_2": path})).encode(
            ["a photo of man and horse"]
        )
        for path in (small, plain)
    ]
    assert torch.equal(texts[0]["hidden"], texts[1]["hidden"])
    settings, state = part_in_file("text_encoder_2", small)
    own_settings, own_state = part_in_file("text_encoder_2", files.text_encoder_2)
    assert settings == own_settings
    assert state.keys() == own_state.keys()


def test_a_factor_for_each_row_and_8_bits_without_factors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weight = torch.tensor([[1.0, 2.0], [-4.0, 0.5]])
    save_file({"x.weight": weight.to(FP8), "x.scale_weight": torch.tensor([2.0, 3.0])}, path)
    assert read_weights(path)["x.weight"].tolist() == [[2.0, 4.0], [-12.0, 1.5]]
    half = {"x.weight": weight.half(), "x.scale_weight": torch.ones(())}
    save_file(half, path)
    assert torch.equal(read_weights(path)["x.weight"], weight.half())
    save_file({**half, "x.scale_weight": torch.tensor(2.0)}, path)
    assert torch.equal(read_weights(path)["x.weight"].float(), 2 * weight)
    save_file({"x.weight": weight.to(torch.float8_e5m2)}, path)
    assert torch.equal(read_weights(path)["x.weight"].float(), weight)


def test_what_is_quantised_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weight, factor = torch.ones(2, 2).to(FP8), torch.ones(())
    text = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    for tensors, message in (
        ({"x.scale_weight": factor}, "x.scale_weight has no x.weight beside it"),
        (
            {"x.weight": torch.ones(2, 2).to(torch.uint8), "x.weight_scale": factor},
            r"x\.weight is torch\.uint8 with a factor beside it",
        ),
        ({"x.weight": weight, "x.scale_weight": torch.ones(3)}, "expected one finite factor"),
        (
            {"x.weight": weight, "x.scale_weight": torch.tensor(torch.nan)},
            "expected one finite factor",
        ),
        ({"x.weight": weight, "x.comfy_quant": text}, "weights in nvfp4 are not read"),
        (
            {"x.weight": weight, "x.comfy_quant": torch.zeros(2, dtype=torch.uint8)},
            "does not say how the weight is quantised",
        ),
    ):
        save_file(tensors, path)
        with pytest.raises(SgfluxError, match=rf"w\.safetensors: .*{message}"):
            read_weights(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(SgfluxError, match=r"w\.safetensors: is a git-lfs pointer"):
        read_weights(path)
