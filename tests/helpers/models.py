"""A miniature adapter model, the graphs and the inputs that its tests give it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from sgflux.bases.flux1.latents import image_ids, text_ids
from sgflux.bases.flux1.load import load_transformer, model_identity
from sgflux.bases.flux1.network import FluxInputs
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.name_features import NameFeatures
from sgflux.settings.model_source import ModelSource
from tests.helpers.flux import make_transformer

GRAPHS = [
    SceneGraph.parse("man, riding, horse"),
    SceneGraph.null(),
    SceneGraph.parse("dog, left of, dog#2; dog, above, cat"),
]


def random_name_features(names: Sequence[str]) -> torch.Tensor:
    """32 random numbers a name, the same ones whenever it is asked for."""
    seeds = [zlib.crc32(name.encode()) for name in names]
    rows = [torch.randn(32, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


def random_names() -> NameFeatures:
    """Features of any name, 32 numbers wide."""
    return NameFeatures(32, random_name_features)


def random_inputs() -> FluxInputs:
    """Three examples of 4 by 6 image tokens and 7 text tokens."""
    return FluxInputs(
        hidden_states=torch.randn(3, 24, 64),
        encoder_hidden_states=torch.randn(3, 7, 32),
        pooled_projections=torch.randn(3, 24),
        timestep=torch.tensor([1.0, 0.371, 0.7313]),
        img_ids=image_ids(4, 6),
        txt_ids=text_ids(7),
    )


def rows_of(inputs: FluxInputs, index: list[int]) -> FluxInputs:
    """Some of the examples."""
    shared = ("img_ids", "txt_ids", "guidance")
    rows = {name: value[index] for name, value in vars(inputs).items() if name not in shared}
    return replace(inputs, **rows)


def make_config(transformer: FluxTransformer2DModel, **settings: Any) -> AdapterConfig:
    settings = {"block_start": 3, "block_end": 5, "lora_rank": 4, **settings}
    settings.setdefault("encoder", {"kind": "native", "hidden_dim": 16})
    return AdapterConfig(base=model_identity(transformer), max_sequence_length=32, **settings)


def make_model(folder: Path, names: NameFeatures, **settings: Any) -> GraphLoraModel:
    transformer = load_transformer(ModelSource(model_id=str(folder)))
    config = make_config(transformer, **settings)
    return build_model(transformer=transformer, config=config, name_features=names)


def train_by_chance(model: GraphLoraModel) -> dict[str, torch.Tensor]:
    """Random values for all trained weights."""
    state = {
        name: value + 0.2 * torch.randn_like(value)
        for name, value in model.trainable_state().items()
    }
    model.load_trainable_state(state)
    return state


def perturbed_model(words: Sequence[str]) -> GraphLoraModel:
    """An adapter of blocks 1 and 2 of four, with trained weights off their first values.

    Args:
        words: Names that have random features; no other name has any.
    """
    transformer = make_transformer(num_layers=4)
    names = NameFeatures(32)
    generator = torch.Generator().manual_seed(0)
    names.add(words, torch.randn(len(words), 32, generator=generator))
    config = AdapterConfig(
        block_start=1,
        block_end=3,
        lora_rank=2,
        encoder={"kind": "native", "hidden_dim": 16, "layers": 1},
        base=model_identity(transformer),
        max_sequence_length=6,
    )
    model = build_model(transformer=transformer, config=config, name_features=names)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model
