"""A dry run's plan: the sizes of a model from its configuration files, without its weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import nn

from sgflux.config import TrainConfig
from sgflux.errors import SgfluxError
from sgflux.models.adapter import build_model
from sgflux.models.backbone import resolve_model_id
from sgflux.models.graph_encoder import NameFeatures
from sgflux.training.build import adapter_config, guidance_of, plan_of
from sgflux.training.encoder import pretrained_encoder
from sgflux.training.plan import RunPlan
from sgflux.training.prepare import Splits, image_tokens_of
from sgflux.training.processes import Processes


def outline(config: TrainConfig, splits: Splits, *, processes: Processes) -> RunPlan:
    """The plan of a run whose model has been described but not loaded.

    Raises:
        SgfluxError: if a description is not on this machine, or a setting does not fit it.
    """
    folder = resolve_model_id(config.model_id)
    local = {"local_files_only": not config.allow_download}
    try:
        vae = AutoencoderKL.load_config(folder, subfolder="vae", **local)
        settings = FluxTransformer2DModel.load_config(folder, subfolder="transformer", **local)
        nothing = dict.fromkeys(("transformer", "vae", "text_encoder", "text_encoder_2"))
        tokenizer = FluxPipeline.from_pretrained(folder, **nothing, **local).tokenizer_2
    except (OSError, ValueError) as error:
        way_out = "" if config.allow_download else "; to fetch it from the hub, allow downloads"
        raise SgfluxError(
            f"model {config.model_id!r} cannot be described: {error}{way_out}"
        ) from error
    image_tokens = image_tokens_of(config, downsample=2 ** (len(vae["block_out_channels"]) - 1))
    text_tokens = config.max_sequence_length or min(256, tokenizer.model_max_length)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(settings)
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
        transformer=transformer, config=adapter, name_features=names, encoder=encoder
    )
    return plan_of(config, splits, adapter, model, processes=processes, image_tokens=image_tokens)
