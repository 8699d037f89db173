"""FLUX.1 from its configuration files, without its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from huggingface_hub import hf_hub_download
from torch import nn

from sgflux.bases.family import Outline
from sgflux.bases.flux1.parts import PARTS, settings_in_file
from sgflux.bases.flux1.text import text_length
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource


def outline(source: ModelSource, *, max_sequence_length: int | None) -> Outline:
    """See :meth:`sgflux.bases.family.Files.outline`."""
    folder, files = resolve_model_id(source.rest), source.files
    local: dict[str, Any] = {"local_files_only": not source.allow_download}
    if source.revision is not None:
        local["revision"] = source.revision

    def described(part: str) -> dict[str, Any]:
        """The settings of a part, as its library has them."""
        if part in files:
            return settings_in_file(part, files[part])
        name = f"{part}/config.json"
        path = Path(folder, name)
        if not Path(folder).is_dir():
            path = Path(hf_hub_download(folder, name, **local))
        elif not path.is_file():
            raise SgfluxError(f"model folder {folder!r} has no {name}")
        # Asked for a folder without it, transformers would make the settings up.
        return dict(json.loads(path.read_bytes()))

    absent = ("transformer", "vae", "text_encoder", "text_encoder_2", "scheduler")
    try:
        settings = {part: described(part) for part in PARTS}
        pipeline = FluxPipeline.from_pretrained(folder, **dict.fromkeys(absent), **local)
    except (OSError, ValueError) as error:
        why = why_not_loaded(error, source.rest, **source.hub)
        raise SgfluxError(f"model {source.name!r} cannot be described: {why}") from error
    with torch.device("meta"):
        modules: dict[str, Any] = {part: PARTS[part].build(own) for part, own in settings.items()}
    for layer in (modules["transformer"].x_embedder, modules["transformer"].proj_out):
        # An adapter knows its base by these two; here any numbers will do.
        layer.to_empty(device="cpu")
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    length = pipeline.tokenizer_2.model_max_length
    return Outline(
        transformer=modules["transformer"],
        text_encoders=(modules["text_encoder"], modules["text_encoder_2"]),
        autoencoder=modules["vae"],
        text_tokens=text_length(max_sequence_length, length, model=source.name),
        patch=2 * 2 ** (len(settings["vae"]["block_out_channels"]) - 1),
    )
