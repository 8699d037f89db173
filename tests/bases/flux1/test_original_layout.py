"""FLUX in one file of the original release, and what is said when a model cannot be had.

If one of these failed, a single-file FLUX would load with weights in the wrong places, or a model
that cannot be had would end in a traceback.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.latents import image_ids, text_ids
from sgflux.bases.flux1.load import load_autoencoder, load_transformer
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from tests.helpers.original_layout import make_transformer, original_state


def source(path: Path) -> ModelSource:
    return ModelSource(model_id=str(path), components="tiny")


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
    loaded = load_transformer(source(path))
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
    assert load_transformer(source(path), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flux1.safetensors"
    with pytest.raises(SgfluxError, match=r"flux1\.safetensors: cannot be read"):
        load_transformer(source(path))
    save_file(original_state(make_transformer(guidance_embeds=False)), path)
    weights = load_file(path)
    for change, message in (
        ({"img_in.weight": None}, "no img_in.weight"),
        ({"double_blocks.1.img_attn.proj.bias": None}, r"transformer_blocks\.1\.attn\.to_out\.0"),
        ({"control_in.weight": torch.ones(1)}, "has no 'control_in'"),
        ({"txt_in.bias": torch.ones(5)}, r"context_embedder.bias is \(5,\), but .* \(128,\)"),
    ):
        changed = {n: v for n, v in {**weights, **change}.items() if v is not None}
        save_file(changed, path)
        with pytest.raises(SgfluxError, match=rf"flux1\.safetensors: .*{message}"):
            load_transformer(source(path))
    with pytest.raises(SgfluxError, match="is a file with one part alone"):
        resolve_model_id(path)
    with pytest.raises(SgfluxError, match=r"flux1\.safetensors: it is no FLUX\.1 autoencoder"):
        load_autoencoder(replace(source(path), autoencoder=path))


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
        load_transformer(ModelSource(model_id=str(flux_folder), revision="v9"))
