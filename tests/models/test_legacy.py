"""Adapters of the earlier training script, and adapters on the hub.

If one of these failed, an adapter of the earlier script would be imported with weights in the
wrong places, or a hub adapter not be found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open

from sgflux.bases.flux1.files import identify_base
from sgflux.bases.flux1.load import load_transformer
from sgflux.bases.flux1.lora_formats import read_lora
from sgflux.bases.flux1.network import FluxInputs
from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.models.bundle import load_bundle
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.hub import push_to_hub
from sgflux.models.legacy import import_legacy
from sgflux.settings.model_source import ModelSource
from tests.helpers.cgip import DIM, write_checkpoint, write_vocabulary
from tests.helpers.models import GRAPHS


@pytest.fixture
def encoder(tmp_path: Path) -> CGIPEncoder:
    return CGIPEncoder.from_checkpoint(
        write_checkpoint(tmp_path / "sip_vg.pt"), vocab_path=write_vocabulary(tmp_path / "v.json")
    )


def legacy_weights(*, inner: int = 32, rank: int = 3) -> dict[str, torch.Tensor]:
    weights = {
        f"transformer_blocks.{block}.attn.{part}.lora_{side}.weight": torch.randn(*shape)
        for block in (3, 4)
        for part in ("to_q", "to_k", "to_v", "to_out.0")
        for side, shape in (("A", (rank, inner)), ("B", (inner, rank)))
    }
    for name, width in (
        ("graph_local_proj", 3 * DIM),
        ("graph_global_proj", DIM),
        ("graph_global_to_temb", DIM),
    ):
        weights |= {f"{name}.weight": torch.randn(inner, width), f"{name}.bias": torch.randn(inner)}
    return weights


@pytest.mark.parametrize("mode", ["token", "temb"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_key_is_taken_over_or_reported(
    flux_folder: Path, encoder: CGIPEncoder, inputs: FluxInputs, tmp_path: Path,
    mode: Any, wrapped: bool,
) -> None:  # fmt: skip
    weights = legacy_weights()
    content: dict[str, Any] = weights
    if wrapped:
        content = {
            "step": 7,
            "lora": {
                f"base_model.model.{n.replace('.weight', '.default.weight')}": v.bfloat16()
                for n, v in weights.items()
                if "lora" in n
            },
            "graph": {n: v for n, v in weights.items() if "lora" not in n},
        }
    path = tmp_path / "graph_lora.pt"
    torch.save(content, path)
    transformer = load_transformer(ModelSource(model_id=str(flux_folder)))
    imported = import_legacy(
        path, transformer=transformer, encoder=encoder, graph_mode=mode, lora_alpha=6.0
    )
    model, report = imported.model, imported.report
    assert (model.config.block_start, model.config.block_end) == (3, 5)
    assert (model.config.lora_rank, model.config.lora_targets) == (3, "image")
    named = [line for line in report if "taken over" in line or "left out" in line]
    assert len(named) == len(weights)
    assert sum("left out" in line for line in report) == (2 if mode == "token" else 4)
    assert any("gate" in line and line.endswith("starts at zero") for line in report)
    assert any("graph_global_norm.weight" in line and "identity" in line for line in report)
    name = "transformer_blocks.4.attn.to_out.0.lora_B.weight"
    expected = weights[name].bfloat16().float() if wrapped else weights[name]
    assert torch.equal(model.trainable_state()[f"lora.{name}"], expected)
    # Its LoRA acts, its graph does not yet.
    base = load_transformer(ModelSource(model_id=str(flux_folder)))(**vars(inputs)).sample
    with torch.no_grad():
        alone = model(None, inputs)
        assert torch.equal(model(GRAPHS[:2] + GRAPHS[:1], inputs), alone)
    assert (alone - base).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet.x": torch.ones(1)}, r"graph_lora\.pt: unet\.x: not a key"),
        (
            {"ema.transformer_blocks.3.attn.to_q.lora_A.weight": torch.ones(3, 32)},
            r"graph_lora\.pt: transformer_blocks\.3\.attn\.to_q\.lora_A\.weight and "
            r"ema\.transformer_blocks\.3\.attn\.to_q\.lora_A\.weight are the same weight of two",
        ),
        (
            {"graph_local_proj": {"bias": torch.ones(32)}},
            r"graph_lora\.pt: has graph_local_proj\.bias twice",
        ),
        (
            {"ema.graph_global_to_temb.bias": torch.ones(32)},
            r"graph_global_to_temb\.bias and ema\.graph_global_to_temb\.bias are the same weight",
        ),
        ({"graph_local_proj.bias": None}, r"graph_local_proj\.bias is missing in token mode"),
        (
            {f"transformer_blocks.3.attn.to_q.lora_{s}.weight": None for s in "AB"},
            r"transformer_blocks\.3\.attn\.to_q is missing",
        ),
        (
            {"graph_global_proj.bias": torch.full((32,), float("nan"))},
            r"graph_lora\.pt: .*graph_global_proj\.bias has 32 of 32 values that are not finite",
        ),
        ({"graph_global_proj.weight": torch.ones(32, 5)}, r"\(32, 5\), but .* \(32, 6\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    flux_folder: Path, encoder: CGIPEncoder, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "graph_lora.pt"
    torch.save({n: v for n, v in (legacy_weights() | change).items() if v is not None}, path)
    with pytest.raises(SgfluxError, match=message):
        import_legacy(
            path,
            transformer=load_transformer(ModelSource(model_id=str(flux_folder))),
            encoder=encoder,
        )


class FakeApi:
    """Remembers what the hub would have been asked."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fails = fails

    def create_repo(self, **arguments: Any) -> str:
        self.calls.append(("create_repo", arguments))
        if self.fails:
            raise HFValidationError("401 Unauthorized\nmore")
        return f"hub/{arguments['repo_id']}"

    def upload_folder(self, **arguments: Any) -> None:
        self.calls.append(("upload_folder", arguments))


def test_import_export_and_publish(
    flux_folder: Path, encoder: CGIPEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    legacy, bundle, file = tmp_path / "old.pt", tmp_path / "new", tmp_path / "lora.safetensors"
    torch.save(legacy_weights(), legacy)
    flags = {
        "--legacy": legacy, "--output-dir": bundle, "--cgip-ckpt": tmp_path / "sip_vg.pt",
        "--vocab-path": tmp_path / "v.json", "--model-id": flux_folder,
        "--max-sequence-length": 32,
    }  # fmt: skip
    assert main(["import", *(str(word) for pair in flags.items() for word in pair)]) == 0
    assert "graph_global_to_temb.bias: left out" in capsys.readouterr().out
    config, state = load_bundle(bundle)
    assert config.base_identity == identify_base(ModelSource(model_id=str(flux_folder)))
    export = ["export", "--adapter", str(bundle)]
    assert main([*export, "--format", "kohya", "--output", str(file), "--scale", "0.5"]) == 0
    lora = read_lora(file)
    assert lora.alpha == config.lora_alpha
    for name, value in lora.weights.items():
        factor = 0.5 if name.endswith("lora_B.weight") else 1.0
        assert torch.equal(value, factor * state[f"lora.{name}"])
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert header["ss_base_model_version"] == "flux1"
    assert header["modelspec.architecture"] == "flux-1/lora"
    assert header["modelspec.title"] == "new"
    assert main(export) == 2
    assert "nothing to export" in capsys.readouterr().err

    api = FakeApi()
    assert push_to_hub(bundle, "me/riding", private=True, api=api) == "hub/me/riding"
    (_, made), (_, sent) = api.calls
    assert made == {
        "repo_id": "me/riding", "repo_type": "model", "private": True, "exist_ok": True
    }  # fmt: skip
    assert (sent["repo_id"], sent["folder_path"]) == ("me/riding", str(bundle))
    with pytest.raises(SgfluxError, match=r"published as 'me/riding': 401 Unauthorized\. Log in"):
        push_to_hub(bundle, "me/riding", api=FakeApi(fails=True))
    (bundle / "graph_encoder.safetensors").unlink()
    api = FakeApi()
    with pytest.raises(SgfluxError, match=r"graph_encoder\.safetensors: cannot be read"):
        push_to_hub(bundle, "me/riding", api=api)
    assert not api.calls
