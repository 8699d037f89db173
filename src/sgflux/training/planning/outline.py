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
from sgflux.data.buckets import Size
from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.training_adapter import check_training_adapter_file
from sgflux.settings.model_source import ModelSource
from sgflux.settings.training import TrainConfig
from sgflux.training.build import adapter_config, frozen_encoder, guidance_of, plan_of
from sgflux.training.encoding.encode import image_tokens_of
from sgflux.training.encoding.graph_encoder import pretrained_encoder
from sgflux.training.encoding.splits import Splits
from sgflux.training.planning.estimate import Shape, estimate_lines
from sgflux.training.planning.plan import RunPlan
from sgflux.training.processes.processes import Processes


@dataclass(frozen=True)
class Outline:
    """A run whose model has been described but not loaded.

    Attributes:
        plan: Numbers of the run.
        costs: Lines that say what the run will cost.
    """

    plan: RunPlan
    costs: list[str]


def outline(
    config: TrainConfig, splits: Splits, *, processes: Processes, sizes: Sequence[Size] = ()
) -> Outline:
    """Work out a run from its model's descriptions.

    Args:
        config: Configuration of the run.
        splits: Examples of the run.
        processes: Processes that share the work.
        sizes: Size of each training picture, with aspect buckets.

    Raises:
        SgfluxError: if a description is not on this machine, or a setting does not fit it.
    """
    parts = _described(config.model)
    vae, tokenizer = parts.autoencoder, parts.tokenizer_2
    downsample = 2 ** (len(vae["block_out_channels"]) - 1)
    image_tokens = image_tokens_of(config, downsample=downsample, sizes=sizes)
    text_tokens = text_length(
        config.conditions.max_sequence_length,
        tokenizer.model_max_length,
        model=config.model.name,
    )
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(parts.transformer)
        text_encoders = (CLIPTextModel(parts.clip), T5EncoderModel(parts.t5))
        autoencoder = AutoencoderKL.from_config(vae)
    for layer in (transformer.x_embedder, transformer.proj_out):
        # An adapter knows its base by these two; here any numbers will do.
        layer.to_empty(device="cpu")
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    if splits.training_adapter is not None:
        check_training_adapter_file(transformer, splits.training_adapter)
    encoder = pretrained_encoder(config)
    adapter = adapter_config(config, transformer, text_tokens=text_tokens, encoder=encoder)
    guidance_of(config, is_distilled=transformer.config.guidance_embeds)
    names = NameFeatures(adapter.base["joint_attention_dim"])
    model = build_model(
        transformer=transformer,
        config=adapter,
        name_features=names,
        encoder=encoder or frozen_encoder(config, adapter, names),
    )
    plan = plan_of(
        config,
        splits,
        adapter,
        model,
        processes=processes,
        image_tokens=image_tokens,
        sizes=sizes,
    )
    width = 4 if config.compute.dtype == "fp32" else 2
    shape = Shape(
        inner_dim=transformer.inner_dim,
        blocks=plan.num_layers + transformer.config.num_single_layers,
        first_adapted=plan.block_start,
        tokens=plan.image_tokens + plan.text_tokens,
        batch_size=config.optimizer.batch_size,
        examples_per_step=plan.examples_per_step,
        bytes_per_number=width,
        checkpoint_every=config.blocks.recompute_every,
        teaches=any(need.teacher for need in splits.needs),
    )
    base_bytes = width * (plan.total - plan.trainable)
    if splits.training_adapter is not None:
        base_bytes += width * sum(w.numel() for w in described(splits.training_adapter).values())
    if config.memory.quantize != "none":
        layers = quantizable(transformer, keep=frozenset(adapter.lora_modules))
        rounded = sum(layer.weight.numel() for _, layer in layers)
        base_bytes -= round(rounded * (width - BITS[config.memory.quantize] / 8))
    offloaded = 0
    if config.memory.offload_blocks:
        double = transformer.transformer_blocks
        away = (
            *double[: plan.block_start],
            *double[plan.block_end :],
            *transformer.single_transformer_blocks,
        )
        offloaded = width * sum(map(_numbers, away))
    costs = estimate_lines(
        shape,
        # The autoencoder runs in float32 whatever the rest is in.
        encoder_bytes=width * sum(map(_numbers, text_encoders)) + 4 * _numbers(autoencoder),
        base_bytes=base_bytes,
        trained_numbers=plan.trainable,
        averaged=config.optimizer.ema_decay > 0,
        encoders_aside=config.memory.encoder_device is not None
        and usable_device(config.memory.encoder_device).type != processes.device.type,
        offloaded_bytes=offloaded,
    )
    return Outline(plan=plan, costs=costs)


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
