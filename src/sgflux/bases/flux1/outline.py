"""FLUX.1 from its configuration files, without its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from huggingface_hub import hf_hub_download
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sgflux.bases.base import Outline
from sgflux.bases.flux1.original_layout import described_original
from sgflux.bases.flux1.single_files import described_autoencoder, described_clip, described_t5
from sgflux.bases.flux1.text import text_length
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource


def outline(source: ModelSource, *, max_sequence_length: int | None) -> Outline:
    """See :meth:`sgflux.bases.base.Files.outline`."""
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
    return Outline(
        transformer=transformer,
        text_encoders=text_encoders,
        autoencoder=autoencoder,
        text_tokens=text_length(
            max_sequence_length, parts.tokenizer_2.model_max_length, model=source.name
        ),
        patch=2 * 2 ** (len(vae["block_out_channels"]) - 1),
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
