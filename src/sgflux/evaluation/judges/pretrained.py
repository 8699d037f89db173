"""How judges and detectors load models of transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils.hub import cached_file

from sgflux.bases.digests import state_digest
from sgflux.bases.hub import why_not_loaded
from sgflux.errors import SgfluxError
from sgflux.files.reading import naming_unreadable

_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
"""Files that say how a network and its pictures are prepared."""
_ORIGIN = {"transformers_version", "_name_or_path", "dtype", "torch_dtype"}
"""Keys of these files that say by whom and as what a model was saved."""


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
    name, revision = _name_and_revision(source)
    if Path(source).is_dir():
        options = {**options, "local_files_only": True}
    try:
        return loader.from_pretrained(name, revision=revision or "main", **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        why = why_not_loaded(error, name, allow_download=True, revision=revision)
        raise SgfluxError(f"{role} {source!r} cannot be loaded: {why}") from error


def _name_and_revision(source: str) -> tuple[str, str | None]:
    """Return the folder or hub id, and the revision if one is named."""
    name, _, revision = source.partition("@")
    return (source, None) if Path(source).is_dir() else (name, revision or None)


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


def settings_of(source: str) -> dict[str, Any]:
    """Return what the files of a loaded model say beside its weights: file -> its content.

    Formatting, and what says by whom and as what a model was saved, are left out.
    """
    name, revision = _name_and_revision(source)
    found = {}
    for file in _SETTINGS:
        path = cached_file(
            name,
            file,
            revision=revision,
            local_files_only=True,  # what was loaded is on this machine
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            with naming_unreadable(path):
                content = Path(path).read_bytes()
            try:
                found[file] = _without_origin(json.loads(content))
            except ValueError:  # no loader has read it
                found[file] = content.hex()
    return found


def _without_origin(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_origin(own) for key, own in content.items() if key not in _ORIGIN}
    return content


def model_digest(network: Any, tokenizer: Any, settings: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of what decides a network's answers.

    Args:
        network: Network of transformers; its weights count, in whatever format they are.
        tokenizer: Tokenizer of transformers; its vocabulary counts.
        settings: Whatever else changes answers, as plain JSON.
    """
    words = sorted(tokenizer.get_vocab().items())
    parts = [state_digest(network.state_dict()), words, settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_tokenizer(source: str, *, role: str = "detector") -> Any:
    """Load the tokenizer of a folder or hub id."""
    return load(transformers.AutoTokenizer, source, role=role)
