"""FLUX in one file of the original release, and what is said when a model cannot be had."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file

from sgflux.errors import SgfluxError
from sgflux.models.backbone import (
    image_ids,
    load_autoencoder,
    load_text_encoders,
    load_transformer,
    text_ids,
)
from sgflux.models.hub_errors import why_not_loaded


def make_transformer(
    *, guidance_embeds: bool, pooled_projection_dim: int = 24
) -> FluxTransformer2DModel:
    """FLUX with its own head width, and otherwise small."""
    torch.manual_seed(4)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=32,
        pooled_projection_dim=pooled_projection_dim,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(16, 56, 56),
    ).eval()


def original_state(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the original release, written down one by one."""
    own = model.state_dict()
    out: dict[str, torch.Tensor] = {}

    def copy(target: str, *sources: str) -> None:
        for part in ("weight", "bias"):
            out[f"{target}.{part}"] = torch.cat([own[f"{source}.{part}"] for source in sources])

    def embedder(target: str, source: str) -> None:
        copy(f"{target}.in_layer", f"time_text_embed.{source}.linear_1")
        copy(f"{target}.out_layer", f"time_text_embed.{source}.linear_2")

    copy("img_in", "x_embedder")
    copy("txt_in", "context_embedder")
    embedder("time_in", "timestep_embedder")
    embedder("vector_in", "text_embedder")
    if model.config.guidance_embeds:
        embedder("guidance_in", "guidance_embedder")
    for i in range(model.config.num_layers):
        new, old = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for stream, norm, feed, projections, output, norms in (
            ("img", "norm1", "ff", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
            (
                "txt", "norm1_context", "ff_context", ("add_q_proj", "add_k_proj", "add_v_proj"),
                "to_add_out", ("norm_added_q", "norm_added_k"),
            ),
        ):  # fmt: skip
            copy(f"{new}.{stream}_mod.lin", f"{old}.{norm}.linear")
            copy(f"{new}.{stream}_attn.qkv", *(f"{old}.attn.{name}" for name in projections))
            copy(f"{new}.{stream}_attn.proj", f"{old}.attn.{output}")
            copy(f"{new}.{stream}_mlp.0", f"{old}.{feed}.net.0.proj")
            copy(f"{new}.{stream}_mlp.2", f"{old}.{feed}.net.2")
            for kind, name in zip(("query", "key"), norms, strict=True):
                scale = own[f"{old}.attn.{name}.weight"]
                out[f"{new}.{stream}_attn.norm.{kind}_norm.scale"] = scale
    for i in range(model.config.num_single_layers):
        new, old = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        copy(f"{new}.modulation.lin", f"{old}.norm.linear")
        projections = tuple(f"{old}.attn.{name}" for name in ("to_q", "to_k", "to_v"))
        copy(f"{new}.linear1", *projections, f"{old}.proj_mlp")
        copy(f"{new}.linear2", f"{old}.proj_out")
        for kind, name in (("query", "norm_q"), ("key", "norm_k")):
            out[f"{new}.norm.{kind}_norm.scale"] = own[f"{old}.attn.{name}.weight"]
    copy("final_layer.linear", "proj_out")
    for part in ("weight", "bias"):
        scale, shift = own[f"norm_out.linear.{part}"].chunk(2)
        out[f"final_layer.adaLN_modulation.1.{part}"] = torch.cat([shift, scale])
    return {name: value.contiguous().clone() for name, value in out.items()}


@pytest.mark.parametrize("guidance_embeds", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_it_is_the_same_model_bit_for_bit(
    tmp_path: Path, guidance_embeds: bool, prefix: str
) -> None:
    model = make_transformer(guidance_embeds=guidance_embeds)
    path = tmp_path / "flux1.safetensors"
    weights = {f"{prefix}{name}": value for name, value in original_state(model).items()}
    if prefix:
        weights["vae.decoder.conv_in.bias"] = torch.zeros(1)
    save_file(weights, path)
    loaded = load_transformer(str(path))
    assert all(
        torch.equal(value, model.state_dict()[n]) for n, value in loaded.state_dict().items()
    )
    assert {n: loaded.config[n] for n in ("num_layers", "guidance_embeds", "in_channels")} == {
        n: model.config[n] for n in ("num_layers", "guidance_embeds", "in_channels")
    }
    inputs: dict[str, Any] = {
        "hidden_states": torch.randn(2, 6, 64),
        "encoder_hidden_states": torch.randn(2, 5, 32),
        "pooled_projections": torch.randn(2, 24),
        "timestep": torch.tensor([1.0, 0.3]),
        "img_ids": image_ids(2, 3),
        "txt_ids": text_ids(5),
        "guidance": torch.tensor([3.5, 1.0]) if guidance_embeds else None,
    }
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).sample, model(**inputs).sample)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert load_transformer(str(path), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flux1.safetensors"
    with pytest.raises(SgfluxError, match=r"flux1\.safetensors: cannot be read"):
        load_transformer(str(path))
    save_file(original_state(make_transformer(guidance_embeds=False)), path)
    weights = load_file(path)
    for change, message in (
        ({"img_in.weight": None}, "no img_in.weight"),
        ({"double_blocks.1.img_attn.proj.bias": None}, r"transformer_blocks\.1\.attn\.to_out\.0"),
        ({"control_in.weight": torch.ones(1)}, "has no 'control_in'"),
        ({"txt_in.bias": torch.ones(5)}, r"context_embedder.bias are \(5,\), expected \(128,\)"),
    ):
        changed = {n: v for n, v in {**weights, **change}.items() if v is not None}
        save_file(changed, path)
        with pytest.raises(SgfluxError, match=rf"flux1\.safetensors: .*{message}"):
            load_transformer(str(path))
    with pytest.raises(SgfluxError, match=r"revision \(main\) has no effect"):
        load_transformer(str(path), revision="main")
    with pytest.raises(SgfluxError, match="is a file with one part alone"):
        load_text_encoders(str(path))
    with pytest.raises(SgfluxError, match=r"flux1\.safetensors: it is no FLUX\.1 autoencoder"):
        load_autoencoder(str(path))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GatedRepoError, r"licence must be accepted.*huggingface\.co/me/flux; then log in"),
        (RepositoryNotFoundError, "no such repository, or a private one"),
        (RevisionNotFoundError, "no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_comes_with_a_way_out(kind: type[Exception], message: str) -> None:
    cause = kind.__new__(kind)  # made by the hub's client from a response
    error = OSError("somewhere far down")
    error.__cause__ = cause
    text = why_not_loaded(error, "me/flux", allow_download=True, revision="v9")
    assert re.search(message, text), text
    missing = LocalEntryNotFoundError("not here")
    text = why_not_loaded(missing, "me/flux", allow_download=False, revision="v9")
    assert re.search(r"revision 'v9' is not.*cache.*`hf download me/flux --revision v9`", text)
    plain = why_not_loaded(OSError("no connection\nmore"), "me/flux", allow_download=False)
    assert plain.startswith("no connection; only this machine was searched")
    assert plain.endswith("allow downloads (--allow-download)")


def test_a_folder_has_no_revision(flux_folder: Path) -> None:
    with pytest.raises(SgfluxError, match=r"revision \(v9\) has no effect: .* is a folder"):
        load_transformer(str(flux_folder), revision="v9")
