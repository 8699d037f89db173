"""Sizes and identities of FLUX.1's encoders, taken from their files without loading them.

A cache's keys have the digests of all files that an encoder and its tokenizers are loaded from, so
that another encoder never finds this one's entries.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from sgflux.bases.digests import files_identity
from sgflux.bases.family import Facts
from sgflux.bases.flux1.parts import settings_in_file
from sgflux.bases.flux1.text import text_length
from sgflux.bases.hub import model_folder
from sgflux.errors import SgfluxError
from sgflux.files.reading import read_json_object
from sgflux.settings.model_source import ModelSource

_PARTS = {
    "pictures": ("vae",),
    "text": ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
}


def encoder_facts(source: ModelSource, *, max_sequence_length: int | None) -> Facts:
    """See :meth:`sgflux.bases.family.Files.facts`; the headers of single files are read, too."""
    folder = _folder(source)

    def settings(part: str, needed: str) -> dict[str, Any]:
        if part in source.files:
            return settings_in_file(part, source.files[part])
        return read_json_object(folder / part / "config.json", needed)

    vae = settings("vae", "block_out_channels")
    tokenizer = read_json_object(folder / "tokenizer_2" / "tokenizer_config.json")
    downsample = 2 ** (len(vae["block_out_channels"]) - 1)
    return Facts(
        text_dim=settings("text_encoder_2", "d_model")["d_model"],
        text_tokens=text_length(
            max_sequence_length, tokenizer.get("model_max_length", math.inf), model=str(folder)
        ),
        channels=16,
        downsample=downsample,
        patch=2 * downsample,
        latent_shift=vae.get("shift_factor") or 0.0,
        latent_scale=vae.get("scaling_factor", 0.18215),
    )


def picture_size(source: ModelSource) -> int:
    """See :meth:`sgflux.bases.family.Files.picture_size`; the autoencoder says it."""
    if source.autoencoder is not None:
        return int(settings_in_file("vae", source.autoencoder)["sample_size"])
    path = model_folder(source.rest, **source.hub, parts=["vae"]) / "vae" / "config.json"
    size = read_json_object(path).get("sample_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SgfluxError(
            f"{path}: sample_size, the model's own size, must be a whole number, got {size!r}; "
            "give height and width"
        )
    return size


def encoder_identity(source: ModelSource, part: Literal["text", "pictures"]) -> str:
    """See :meth:`sgflux.bases.family.Files.encoder_identity`."""
    parts, files = _PARTS[part], source.files
    return files_identity(
        _folder(source),
        [name for name in parts if name not in files],
        single=[files[name] for name in parts if name in files],
    )


def _folder(source: ModelSource) -> Path:
    """The folder of the encoders that have no file of their own."""
    parts = [name for names in _PARTS.values() for name in names if name not in source.files]
    return model_folder(source.rest, **source.hub, parts=parts)
