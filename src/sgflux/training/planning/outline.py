"""A dry run's plan: the sizes of a model from its configuration files, without its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from huggingface_hub import hf_hub_download
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sgflux.bases.devices import usable_device
from sgflux.bases.flux1.original_layout import described_original
from sgflux.bases.flux1.single_files import (
    described,
    described_autoencoder,
    described_clip,
    described_t5,
)
from sgflux.bases.flux1.text import text_length
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.bases.memory.quantization import BITS, quantizable
from sgflux.errors import SgfluxError
from sgflux.models.adapter import GraphLoraModel, build_model
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.training_adapter import check_training_adapter_file
from sgflux.settings.adapter import AdapterSettings
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.training.build import adapter_config, frozen_encoder
from sgflux.training.encoding.graph_encoder import pretrained_encoder
from sgflux.training.planning.estimate import Shape, estimate_lines
from sgflux.training.planning.plan import RunPlan


@dataclass(frozen=True)
class DescribedModel:
    """A base model that has been described but not loaded: its weights have no content.

    Attributes:
        transformer: Transformer on the meta device.
        text_encoders: Both text encoders on the meta device.
        autoencoder: Autoencoder on the meta device.
        text_tokens: Text tokens of a prompt.
        patch: Pixels a side of an image token.
    """

    transformer: FluxTransformer2DModel
    text_encoders: Sequence[nn.Module]
    autoencoder: nn.Module
    text_tokens: int
    patch: int


def describe_model(source: ModelSource, *, max_sequence_length: int | None) -> DescribedModel:
    """Make a model from its configuration files, without its weights.

    Raises:
        SgfluxError: if a description is not on this machine, or the text is too long for it.
    """
    parts = _described(source)
    vae = parts.autoencoder
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(parts.transformer)
        text_encoders = (CLIPTextModel(parts.clip), T5EncoderModel(parts.t5))
        autoencoder = AutoencoderKL.from_config(vae)
    for layer in (transformer.x_embedder, transformer.proj_out):
        # An adapter knows its base by these two; here any numbers will do.
        layer.to_empty(device="cpu")
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return DescribedModel(
        transformer=transformer,
        text_encoders=text_encoders,
        autoencoder=autoencoder,
        text_tokens=text_length(
            max_sequence_length, parts.tokenizer_2.model_max_length, model=source.name
        ),
        patch=2 * 2 ** (len(vae["block_out_channels"]) - 1),
    )


def adapted(
    described_model: DescribedModel,
    *,
    adapter: AdapterSettings,
    encoder: GraphEncoderSettings,
    training_adapter: Path | None,
) -> GraphLoraModel:
    """A described model with an adapter, as :func:`sgflux.training.build.adapted_model` makes it.

    Raises:
        SgfluxError: if a setting does not fit the model.
    """
    transformer = described_model.transformer
    if training_adapter is not None:
        check_training_adapter_file(transformer, training_adapter)
    pretrained = pretrained_encoder(encoder)
    config = adapter_config(
        transformer,
        adapter=adapter,
        number_triples=encoder.number_triples,
        text_tokens=described_model.text_tokens,
        encoder=pretrained,
    )
    names = NameFeatures(config.base["joint_attention_dim"])
    return build_model(
        transformer=transformer,
        config=config,
        name_features=names,
        encoder=pretrained or frozen_encoder(encoder, config, names),
    )


def cost_lines(
    described_model: DescribedModel,
    plan: RunPlan,
    *,
    optimizer: OptimizerSettings,
    memory: MemorySettings,
    dtype: str,
    recompute_every: int,
    lora_modules: Sequence[str],
    training_adapter: Path | None,
    teaches: bool,
    device: torch.device,
) -> list[str]:
    """What a run will cost, a line each.

    Args:
        described_model: Base model, with the adapter in it.
        plan: Numbers of the run.
        optimizer: Settings of the optimizer.
        memory: Ways to need less memory.
        dtype: Precision of the base, "fp32" or "bf16".
        recompute_every: Every n-th block is recomputed in the backward pass; 0: none.
        lora_modules: Layers with a LoRA.
        training_adapter: File of the training adapter, if there is one.
        teaches: Whether a second forward pass of the base is needed in each step.
        device: Device of the training.
    """
    transformer = described_model.transformer
    width = 4 if dtype == "fp32" else 2
    shape = Shape(
        inner_dim=transformer.inner_dim,
        blocks=plan.num_layers + transformer.config.num_single_layers,
        first_adapted=plan.block_start,
        tokens=plan.image_tokens + plan.text_tokens,
        batch_size=optimizer.batch_size,
        examples_per_step=plan.examples_per_step,
        bytes_per_number=width,
        checkpoint_every=recompute_every,
        teaches=teaches,
    )
    base_bytes = width * (plan.total - plan.trainable)
    if training_adapter is not None:
        base_bytes += width * sum(w.numel() for w in described(training_adapter).values())
    if memory.quantize != "none":
        layers = quantizable(transformer, keep=frozenset(lora_modules))
        rounded = sum(layer.weight.numel() for _, layer in layers)
        base_bytes -= round(rounded * (width - BITS[memory.quantize] / 8))
    offloaded = 0
    if memory.offload_blocks:
        double = transformer.transformer_blocks
        away = (
            *double[: plan.block_start],
            *double[plan.block_end :],
            *transformer.single_transformer_blocks,
        )
        offloaded = width * sum(map(_numbers, away))
    aside = memory.encoder_device
    return estimate_lines(
        shape,
        # The autoencoder runs in float32 whatever the rest is in.
        encoder_bytes=width * sum(map(_numbers, described_model.text_encoders))
        + 4 * _numbers(described_model.autoencoder),
        base_bytes=base_bytes,
        trained_numbers=plan.trainable,
        averaged=optimizer.ema_decay > 0,
        encoders_aside=aside is not None and usable_device(aside).type != device.type,
        offloaded_bytes=offloaded,
    )


@dataclass(frozen=True)
class _Described:
    """The settings of a model's parts, as diffusers and transformers have them."""

    transformer: dict[str, Any]
    autoencoder: dict[str, Any]
    clip: CLIPTextConfig
    t5: T5Config
    tokenizer_2: Any


class _Plain:
    """diffusers' settings, which are a dictionary."""

    @staticmethod
    def from_dict(settings: dict[str, Any]) -> dict[str, Any]:
        return settings


def _described(source: ModelSource) -> _Described:
    """Read the configuration files, and the headers of single files."""
    folder = resolve_model_id(source.rest)
    local: dict[str, Any] = {"local_files_only": not source.allow_download}
    if source.revision is not None:
        local["revision"] = source.revision

    def config_of(kind: Any, part: str) -> Any:
        name = f"{part}/config.json"
        path = Path(folder, name)
        if not Path(folder).is_dir():
            path = Path(hf_hub_download(folder, name, **local))
        elif not path.is_file():
            raise SgfluxError(f"model folder {folder!r} has no {name}")
        # Asked for a folder without it, transformers would make the settings up.
        return kind.from_dict(json.loads(path.read_bytes()))

    clip_file, t5_file, vae_file = source.text_encoder, source.text_encoder_2, source.autoencoder
    absent = ("transformer", "vae", "text_encoder", "text_encoder_2", "scheduler")
    try:
        return _Described(
            transformer=described_original(Path(source.name))
            if source.is_file
            else config_of(_Plain, "transformer"),
            autoencoder=config_of(_Plain, "vae")
            if vae_file is None
            else described_autoencoder(vae_file),
            clip=config_of(CLIPTextConfig, "text_encoder")
            if clip_file is None
            else described_clip(clip_file),
            t5=config_of(T5Config, "text_encoder_2") if t5_file is None else described_t5(t5_file),
            tokenizer_2=FluxPipeline.from_pretrained(
                folder, **dict.fromkeys(absent), **local
            ).tokenizer_2,
        )
    except (OSError, ValueError) as error:
        raise SgfluxError(
            f"model {source.name!r} cannot be described: "
            + why_not_loaded(
                error,
                source.rest,
                allow_download=source.allow_download,
                revision=source.revision,
            )
        ) from error


def _numbers(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
