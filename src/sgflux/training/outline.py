"""A dry run's plan: the sizes of a model from its configuration files, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sgflux.config import TrainConfig
from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.models.backbone import resolve_model_id
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.hub_errors import why_not_loaded
from sgflux.models.original_layout import described_original
from sgflux.models.quantization import quantizable
from sgflux.training.build import adapter_config, frozen_encoder, guidance_of, plan_of
from sgflux.training.encoder import pretrained_encoder
from sgflux.training.estimate import Shape, estimate_lines
from sgflux.training.plan import RunPlan
from sgflux.training.prepare import Splits, image_tokens_of
from sgflux.training.processes import Processes


@dataclass(frozen=True)
class Outline:
    """A run whose model has been described but not loaded.

    Attributes:
        plan: the numbers of the run.
        costs: what it will cost, a line each.
    """

    plan: RunPlan
    costs: list[str]


def outline(config: TrainConfig, splits: Splits, *, processes: Processes) -> Outline:
    """Work out a run from its model's descriptions.

    Raises:
        SgfluxError: if a description is not on this machine, or a setting does not fit it.
    """
    folder = resolve_model_id(config.parts_id)
    local: dict[str, Any] = {"local_files_only": not config.allow_download}
    if config.revision is not None:
        local["revision"] = config.revision
    try:
        vae = AutoencoderKL.load_config(folder, subfolder="vae", **local)
        settings = None
        if config.components is None:
            settings = FluxTransformer2DModel.load_config(folder, subfolder="transformer", **local)
        clip = CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder", **local)
        t5 = T5Config.from_pretrained(folder, subfolder="text_encoder_2", **local)
        nothing = dict.fromkeys(("transformer", "vae", "text_encoder", "text_encoder_2"))
        tokenizer = FluxPipeline.from_pretrained(folder, **nothing, **local).tokenizer_2
    except (OSError, ValueError) as error:
        raise SgfluxError(
            f"model {config.model_id!r} cannot be described: "
            + why_not_loaded(
                error,
                config.parts_id,
                allow_download=config.allow_download,
                revision=config.revision,
            )
        ) from error
    if settings is None:
        settings = described_original(Path(config.model_id))
    image_tokens = image_tokens_of(config, downsample=2 ** (len(vae["block_out_channels"]) - 1))
    text_tokens = config.max_sequence_length or min(256, tokenizer.model_max_length)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(settings)
        text_encoders = (CLIPTextModel(clip), T5EncoderModel(t5))
        autoencoder = AutoencoderKL.from_config(vae)
    for layer in (transformer.x_embedder, transformer.proj_out):
        # An adapter knows its base by these two; here any numbers will do.
        layer.to_empty(device="cpu")
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
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
    plan = plan_of(config, splits, adapter, model, processes=processes, image_tokens=image_tokens)
    width = 4 if config.dtype == "fp32" else 2
    shape = Shape(
        inner_dim=transformer.inner_dim,
        blocks=plan.num_layers + transformer.config.num_single_layers,
        first_adapted=plan.block_start,
        tokens=plan.image_tokens + plan.text_tokens,
        batch_size=config.batch_size,
        examples_per_step=plan.examples_per_step,
        bytes_per_number=width,
        checkpoint_every=config.recompute_every,
    )
    quantized = 0
    if config.quantize != "none":
        quantized = sum(layer.weight.numel() for _, layer in quantizable(transformer))
    costs = estimate_lines(
        shape,
        # The autoencoder runs in float32 whatever the rest is in.
        encoder_bytes=width * sum(map(_numbers, text_encoders)) + 4 * _numbers(autoencoder),
        base_bytes=width * (plan.total - plan.trainable) - (width - 1) * quantized,
        trained_numbers=plan.trainable,
        averaged=config.ema_decay > 0,
    )
    return Outline(plan=plan, costs=costs)


def _numbers(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
