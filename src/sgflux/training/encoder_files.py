"""What is known of a model's encoders without loading them: their sizes, and what identifies them.

A cache's keys have the digests of all files that an encoder and its tokenizers are loaded from, so
that another encoder never finds this one's entries. A digest of ten gigabytes takes seconds: those
found are remembered beside the cache, by path, size and time of the file's last change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.files.writing import replace_file
from sgflux.models.single_files import described_autoencoder, described_t5
from sgflux.models.text import text_length

AUTOENCODER_PARTS = ("vae",)
TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

_DIGESTS_FILE = "encoder_digests.json"


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """The numbers of a model's encoders, from its configuration files.

    Attributes:
        text_dim: features of a text token.
        text_tokens: tokens a prompt.
        downsample: pixels a side for one latent pixel.
        latent_shift: subtracted from latents before the transformer sees them.
        latent_scale: multiplied with them afterwards.
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
        folder: of the model.
        max_sequence_length: tokens a prompt; None: what the tokenizer allows, at most 256.
        autoencoder: as a file of its own.
        text_encoder_2: T5 as a file of its own.

    Raises:
        SgfluxError: naming the file that is missing or lacks a number, or if the length is out of
            range.
    """
    if autoencoder is None:
        vae = _settings(folder / "vae" / "config.json", "block_out_channels")
    else:
        vae = described_autoencoder(autoencoder)
    if text_encoder_2 is None:
        text_dim = _settings(folder / "text_encoder_2" / "config.json", "d_model")["d_model"]
    else:
        text_dim = described_t5(text_encoder_2).d_model
    tokenizer = _settings(folder / "tokenizer_2" / "tokenizer_config.json")
    return EncoderFacts(
        text_dim=text_dim,
        text_tokens=text_length(
            max_sequence_length, tokenizer.get("model_max_length", math.inf), model=str(folder)
        ),
        downsample=2 ** (len(vae["block_out_channels"]) - 1),
        latent_shift=vae.get("shift_factor") or 0.0,
        latent_scale=vae.get("scaling_factor", 0.18215),
    )


def files_identity(
    folder: Path, parts: Iterable[str], *, memory: Path | None, single: Sequence[Path] = ()
) -> str:
    """The digest of all files in some parts of a model's folder, (64,) hex digits.

    Args:
        folder: of the model.
        parts: subfolders.
        single: files of other places that hold further parts.
        memory: a folder, where digests are kept and looked up; None: nowhere.

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
    known = {} if memory is None else _known_digests(memory / _DIGESTS_FILE)
    try:
        stamps = [_stamp(path) for path in files]
        new = [(at, stamp) for at, stamp in zip(files, stamps, strict=True) if stamp not in known]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = list(pool.map(_digest, [path for path, _ in new]))
    except OSError as error:
        raise SgfluxError(f"model file {error.filename!r}: {error.strerror}") from error
    known.update(zip((stamp for _, stamp in new), digests, strict=True))
    if new and memory is not None:
        replace_file(memory / _DIGESTS_FILE, json.dumps(known, indent=1))
    content = [(name, known[stamp]) for name, stamp in zip(names, stamps, strict=True)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path: Path) -> str:
    """What changes when a file does; a link of the hub's cache counts as what it points to."""
    real = path.resolve()
    status = real.stat()
    return f"{real}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_digests(path: Path) -> dict[str, str]:
    """The digests remembered; a file that is no such table is as good as none."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_bytes())
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    return {}


def _settings(path: Path, *needed: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SgfluxError(f"{path}: cannot be read: {error}") from error
    for name in needed:
        if not isinstance(settings, dict) or name not in settings:
            raise SgfluxError(f"{path}: has no {name!r}")
    return settings
