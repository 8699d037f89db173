"""Small adapters with random weights, and bases that differ from theirs in one part."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.load import load_transformer, model_identity
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.name import BaseName
from sgflux.models.adapter import AdapterConfig, build_model
from sgflux.models.bundle import load_bundle, save_bundle
from sgflux.models.name_features import NameFeatures
from sgflux.settings.model_source import ModelSource
from tests.helpers.flux import MAX_SEQUENCE_LENGTH


def write_adapter(
    path: Path,
    model_id: Path | str,
    *,
    strength: float = 0.5,
    seed: int = 0,
    named: BaseName | None = None,
    graph_mode: str = "token",
    blocks: tuple[int, int] = (3, 5),
    tokens_per_triple: int = 3,
    **encoder: bool,
) -> Path:
    """A bundle whose weights, gates and LoRA included, are far from their harmless start."""
    transformer = load_transformer(ModelSource(model_id=str(model_id)))
    width = transformer.config.joint_attention_dim
    config = AdapterConfig(
        graph_mode=graph_mode,
        tokens_per_triple=tokens_per_triple,
        block_start=blocks[0],
        block_end=blocks[1],
        lora_rank=4,
        encoder={"kind": "native", "hidden_dim": 16, "layers": 1, **encoder},
        base=model_identity(transformer),
        max_sequence_length=32 if model_id == "tiny" else MAX_SEQUENCE_LENGTH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(
            transformer=transformer, config=config, name_features=NameFeatures(width)
        )
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: value + strength * torch.randn(value.shape, generator=generator)
        for name, value in model.trainable_state().items()
    }
    save_bundle(path, config=config, state=state, card="a test\n", metrics={}, base=named)
    return path


def noisy(folder: Path, target: Path, part: str) -> Path:
    """A base that only looks like another one: the matrices of one part have noise on them."""
    shutil.copytree(folder, target)
    name = "model" if part.startswith("text") else "diffusion_pytorch_model"
    path = target / part / f"{name}.safetensors"
    weights = load_file(path)
    for key, value in weights.items():
        is_outside = part == "transformer" and not key.startswith("transformer_blocks")
        if value.ndim >= 2 and not is_outside:
            weights[key] = value + value.std() * torch.randn(value.shape)
    save_file(weights, path, metadata={"format": "pt"})
    return target


def with_identity(adapter: Path, target: Path, identity: BaseIdentity) -> Path:
    """A copy of a bundle that says what its base is."""
    config, state = load_bundle(adapter)
    base = {**config.base, "identity": identity.to_json()}
    config = dataclasses.replace(config, base=base)
    save_bundle(target, config=config, state=state, card="", metrics={})
    return target
