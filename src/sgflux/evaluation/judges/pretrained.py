"""How judges and detectors load models of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from sgflux.bases.hub import why_not_loaded
from sgflux.errors import SgfluxError


def expect_source(
    source: str, *, role: str, example: str, lacks: str = "no config.json (transformers)"
) -> None:
    """Check that a model is named by a folder with a ``config.json`` or by a hub id.

    Args:
        source: Folder or hub id.
        role: Role of the model in messages, such as "detector".
        example: A hub id for the message.
        lacks: End of the message about a folder without a model.

    Raises:
        SgfluxError: naming the source.
    """
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise SgfluxError(f"{role} folder {source!r} has {lacks}")
    if not folder.is_dir() and (folder.exists() or folder.is_absolute() or source.count("/") != 1):
        raise SgfluxError(f"{role} {source!r} is neither a folder nor a hub id such as {example!r}")


def load(loader: Any, source: str, *, role: str = "detector", **options: Any) -> Any:
    """Load from a folder, or from a hub id with ``@revision``, what ``loader`` makes of it.

    A folder is never looked up on the hub; who names a hub id allows its download.

    Raises:
        SgfluxError: naming the source, its ``role`` and what is wrong with it.
    """
    name, _, revision = source.partition("@")
    if Path(source).is_dir():
        name, revision, options = source, "", {**options, "local_files_only": True}
    try:
        return loader.from_pretrained(name, revision=revision or "main", **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        why = why_not_loaded(error, name, allow_download=True, revision=revision or None)
        raise SgfluxError(f"{role} {source!r} cannot be loaded: {why}") from error


def load_network(
    loader: Any,
    source: str,
    device: str,
    *,
    role: str = "detector",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Load a network for inference, from safetensors alone, onto a device."""
    network = load(loader, source, role=role, use_safetensors=True, dtype=dtype)
    return network.to(device).eval()


def load_tokenizer(source: str, *, role: str = "detector") -> Any:
    """Load the tokenizer of a folder or hub id."""
    return load(transformers.AutoTokenizer, source, role=role)
