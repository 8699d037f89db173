"""Sizes and identities of a model's encoders, taken from their files without loading them.

A cache's keys have the digests of all files that an encoder and its tokenizers are loaded from, so
that another encoder never finds this one's entries.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sgflux.bases.digests import remembered
from sgflux.bases.flux1.single_files import described_autoencoder, described_t5
from sgflux.bases.flux1.text import text_length
from sgflux.errors import SgfluxError
from sgflux.files.reading import read_json_object

AUTOENCODER_PARTS = ("vae",)
TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """The numbers of a model's encoders, from its configuration files.

    Attributes:
        text_dim: Number of features of a text token.
        text_tokens: Number of tokens of a prompt.
        downsample: Pixels on a side of one latent pixel.
        latent_shift: Number subtracted from latents before the transformer sees them.
        latent_scale: Factor of the latents after that.
    """

    text_dim: int
    text_tokens: int
    downsample: int
    latent_shift: float
    latent_scale: float


def encoder_facts(
    folder: Path,
    *,
    max_sequence_length: int | None,
    autoencoder: Path | None = None,
    text_encoder_2: Path | None = None,
) -> EncoderFacts:
    """Read the configuration files, or the headers of single files.

    Args:
        folder: Folder of the model.
        max_sequence_length: Number of tokens of a prompt; None: what the tokenizer allows, at most
            256.
        autoencoder: Autoencoder as a file of its own.
        text_encoder_2: T5 as a file of its own.

    Raises:
        SgfluxError: naming the file that is missing or lacks a number, or if the length is out of
            range.
    """
    if autoencoder is None:
        vae = read_json_object(folder / "vae" / "config.json", "block_out_channels")
    else:
        vae = described_autoencoder(autoencoder)
    if text_encoder_2 is None:
        text_dim = read_json_object(folder / "text_encoder_2" / "config.json", "d_model")["d_model"]
    else:
        text_dim = described_t5(text_encoder_2).d_model
    tokenizer = read_json_object(folder / "tokenizer_2" / "tokenizer_config.json")
    return EncoderFacts(
        text_dim=text_dim,
        text_tokens=text_length(
            max_sequence_length, tokenizer.get("model_max_length", math.inf), model=str(folder)
        ),
        downsample=2 ** (len(vae["block_out_channels"]) - 1),
        latent_shift=vae.get("shift_factor") or 0.0,
        latent_scale=vae.get("scaling_factor", 0.18215),
    )


def files_identity(folder: Path, parts: Iterable[str], *, single: Sequence[Path] = ()) -> str:
    """The digest of all files in some parts of a model's folder, 64 hex digits.

    Args:
        folder: Folder of the model.
        parts: Names of the subfolders.
        single: Further files, each of which holds a part.

    Raises:
        SgfluxError: naming a part or file that cannot be read.
    """
    files: list[Path] = []
    for part in parts:
        found = sorted(path for path in (folder / part).rglob("*") if path.is_file())
        if not found:
            raise SgfluxError(f"model folder {str(folder)!r} has no files in {part!r}")
        files += found
    names = [path.relative_to(folder).as_posix() for path in files]
    files += single
    names += [f"file {number}" for number in range(len(single))]

    def digest() -> str:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            content = list(zip(names, pool.map(_digest, files), strict=True))
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    try:
        return remembered(f"files {names}", files, digest)
    except OSError as error:
        raise SgfluxError(f"model file {error.filename!r}: {error.strerror}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
