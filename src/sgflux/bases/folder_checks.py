"""Checks of one part of a diffusers folder: its configuration, and its weights by their headers.

Nothing is loaded: a folder of 24 GB takes a fraction of a second. What the loaders would only warn
of, or stumble over after everything has been encoded, is refused here by the file's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sgflux.errors import SgfluxError, first_line
from sgflux.files.reading import naming_unreadable, read_json_object
from sgflux.files.weights_header import (
    AGAIN,
    StoredTensor,
    explain_other_file,
    read_header,
)

_LARGEST = 2**24
"""No number of a real configuration is larger; one that is would have a loader allocate it."""

_INDEX = ".index.json"


@dataclass(frozen=True)
class Folder:
    """A model's folder.

    Attributes:
        path: Path of the folder; in the hub's cache if the model is on the hub.
        model_id: Name by which the user called the model.
        incomplete: Whether files may be missing because they are fetched when they are needed.
        pending: Parts that are still to be fetched; the checks add to it.
    """

    path: Path
    model_id: str
    incomplete: bool = False
    pending: list[str] = field(default_factory=list)

    def missing(self, what: str) -> SgfluxError:
        """The error about a file that is not there."""
        if "snapshots" in self.path.parts:
            return SgfluxError(
                f"model {self.model_id!r}: {what} is not in the hub's cache on this machine: "
                f"fetch it with `hf download {self.model_id}`, or allow downloads "
                "(--allow-download)"
            )
        return SgfluxError(f"model folder {str(self.path)!r} has no {what}: {AGAIN}")


@dataclass(frozen=True)
class PartWeights:
    """Weights of a part, as the headers of its files describe them.

    Attributes:
        tensors: Tensors by their names.
        files: File of each tensor.
        size: Size of all files together in bytes.
    """

    tensors: dict[str, StoredTensor]
    files: dict[str, Path]
    size: int

    @property
    def paths(self) -> list[Path]:
        """The files, each once."""
        return list(dict.fromkeys(self.files.values()))


def read_json(folder: Folder, name: str) -> dict[str, Any] | None:
    """A JSON object of the folder; None if it is still to be fetched.

    Raises:
        SgfluxError: naming the file, if it is missing, damaged or no object.
    """
    path = folder.path / name
    if not path.is_file():
        if folder.incomplete:
            return None
        raise folder.missing(name)
    return read_json_file(path)


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON object with plain, finite numbers of a size that a model can have.

    Raises:
        SgfluxError: naming the file, if it is damaged or no object.
    """
    with naming_unreadable(path), path.open("rb") as file:
        explain_other_file(path, file.read(256))
    return read_json_object(path, way_out=AGAIN)


def check_settings(path: Path, settings: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    """Check that numbers are numbers, and none is too large to be meant.

    Args:
        path: Path of the configuration, for the message.
        settings: Content of that file.
        like: Setting -> a value of the right type; settings that it does not name may be anything.

    Raises:
        SgfluxError: naming the file, the setting and its value.
    """
    for name, example in like.items():
        value = settings.get(name, example)
        if not _is_like(value, example):
            kind = {int: "a whole number above 0", bool: "true or false", float: "a number"}
            wanted = kind.get(type(example), f"a list like {json.dumps(example)}")
            raise SgfluxError(f"{path}: {name!r} must be {wanted}, got {json.dumps(value)[:60]}")


def _is_like(value: Any, example: Any) -> bool:
    if isinstance(example, bool):
        return isinstance(value, bool)
    if isinstance(example, int):
        return type(value) is int and 0 < value <= _LARGEST
    if isinstance(example, float):
        return type(value) in (int, float) and abs(value) <= _LARGEST
    return (
        isinstance(value, list)
        and 0 < len(value) <= 64
        and all(_is_like(one, example[0]) for one in value)
    )


def read_weights(folder: Folder, part: str, *, stem: str) -> PartWeights | None:
    """Return the weights that a part's loader would choose; None if they are still to be fetched.

    Args:
        folder: Folder of the model.
        part: Name of the subfolder.
        stem: Name of the file without its ending: ``model`` for transformers,
            ``diffusion_pytorch_model`` for diffusers.

    Raises:
        SgfluxError: naming the file that is missing, cut off, or something else.
    """
    whole = folder.path / part / f"{stem}.safetensors"
    index = folder.path / part / f"{stem}.safetensors{_INDEX}"
    if not (folder.path / part).is_dir() and not folder.incomplete:
        raise folder.missing(f"{part}/")
    if index.is_file() and not (stem == "model" and whole.is_file()):
        return _sharded(folder, index)
    if whole.is_file():
        tensors = read_header(whole)
        return PartWeights(tensors, dict.fromkeys(tensors, whole), whole.stat().st_size)
    if (folder.path / part / f"{'pytorch_' if stem == 'model' else ''}{stem}.bin").is_file():
        return None  # a pickle, whose content only its loader knows
    if folder.incomplete:
        folder.pending.append(part)
        return None
    variants = sorted(path.name for path in (folder.path / part).glob(f"{stem}*.safetensors"))
    if variants:
        raise SgfluxError(
            f"{folder.path / part}: has {', '.join(variants[:3])} but no {whole.name}, which is "
            "the name that is loaded: rename or download that file"
        )
    raise folder.missing(f"{part}/{whole.name}")


def _sharded(folder: Folder, index: Path) -> PartWeights | None:
    content = read_json_file(index)
    table = content.get("weight_map")
    if not isinstance(table, dict) or not table:
        raise SgfluxError(f"{index}: has no table 'weight_map' of names and files: {AGAIN}")
    for name, file in table.items():
        if not isinstance(file, str) or Path(file).name != file or not file:
            raise SgfluxError(f"{index}: {name!r} is in {file!r}, which is no file beside it")
    shards: dict[str, dict[str, StoredTensor]] = {}
    for file in sorted(set(table.values())):
        if not (index.parent / file).is_file():
            if folder.incomplete:
                folder.pending.append(index.parent.name)
                return None
            raise folder.missing(f"{index.parent.name}/{file}, which {index.name} names")
        shards[file] = read_header(index.parent / file)
    tensors: dict[str, StoredTensor] = {}
    for name, file in table.items():
        if name not in shards[file]:
            raise SgfluxError(
                f"{index.parent / file}: has no {name!r}, which {index.name} puts there: the "
                "files do not belong together; download the folder again"
            )
        tensors[name] = shards[file][name]
    files = {name: index.parent / file for name, file in table.items()}
    size = sum((index.parent / file).stat().st_size for file in shards)
    return PartWeights(tensors, files, size)


def expect_layers(
    path: Path, settings: Mapping[str, Any], weights: PartWeights, layers: Mapping[str, str]
) -> None:
    """Compare configured numbers of layers with the weights, before such a model is built.

    Args:
        path: Path of the configuration, for the message.
        settings: Content of that file.
        weights: Weights of the part.
        layers: Setting -> pattern of the weights' names, whose group is the layer's number.

    Raises:
        SgfluxError: naming both files and both numbers.
    """
    for name, pattern in layers.items():
        found = {int(match[1]) for key in weights.tensors if (match := re.search(pattern, key))}
        if name in settings and settings[name] != len(found):
            raise SgfluxError(
                f"{path}: {name!r} is {settings[name]}, but {weights.paths[0].name} has weights of "
                f"{len(found)} such layers: the files do not belong together, or one is not whole"
            )


def expect_weights(
    path: Path,
    weights: PartWeights,
    build: Callable[[], nn.Module],
    *,
    rename: Callable[[str], str] = lambda name: name,
    shared: Sequence[tuple[str, str]] = (),
) -> nn.Module:
    """Compare names and shapes with those of the model that a configuration describes.

    A loader gives random values to weights that a file does not have, with a warning at most.

    Args:
        path: Path of the configuration, for the message.
        weights: Weights of the part.
        build: Function that makes the model; it is called on the device ``meta``.
        rename: Function from a name in the file to the model's name.
        shared: Pairs of names for one matrix, of which a file may have either.

    Returns:
        The model on ``meta``.

    Raises:
        SgfluxError: naming the weight and what was expected.
    """
    try:
        with torch.device("meta"):
            module = build()
    except Exception as error:  # a foreign constructor stumbles over bad settings in any way
        raise SgfluxError(
            f"{path}: describes no model that can be built: {first_line(error)}"
        ) from error
    found = {rename(name): (entry, name) for name, entry in weights.tensors.items()}
    for one, other in shared:
        for name, twin in ((one, other), (other, one)):
            if name in found:
                found.setdefault(twin, found[name])
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    missing = [name for name in expected if name not in found]
    if missing:
        more = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise SgfluxError(
            f"{weights.paths[0]}: has no weights for {missing[0]!r}{more}, which "
            + (
                "such a model has: it is not whole, or of another model"
                if path in weights.paths
                else f"{path.name} beside it asks for: the files do not belong together, or one "
                "is not whole"
            )
        )
    for name, shape in expected.items():
        entry, own = found[name]
        if entry.shape != shape:
            raise SgfluxError(
                f"{weights.files[own]}: {own!r} is {entry.shape}, where {path} says {shape}: the "
                "files do not belong together"
            )
    return module
