"""What a bundle promises of its weights: their digests, and sizes that its settings need.

The digests are kept in ``sgflux_adapter.json``, one for each tensor of each file, and one of the
adapter's settings. They tell a file that was exchanged, rounded, shuffled or cut to zero from the
one that was saved. Sizes are compared in the files' headers, before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

from sgflux.bases.digests import tensor_digest
from sgflux.errors import SgfluxError, first_line
from sgflux.files.tensors import Shape, check_shapes, naming_damage, read_tensors, shapes_of
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.encoders import make_encoder
from sgflux.models.name_features import NameFeatures

_DIGITS = 32  # of a tensor's digest; enough to tell accidents and to name the tensor
_SHOWN = 3  # tensors named in a message

WAY_OUT = (
    "copy or download the bundle again; if the change is intended, remove "
    '"digests" from its sgflux_adapter.json'
)


class _Digests(msgspec.Struct):
    """What :func:`bundle_digests` gives."""

    weights: dict[str, dict[str, str]]
    settings: str
    files: dict[Annotated[str, msgspec.Meta(pattern="^[^/]+$")], str] = {}
    drawing: str | None = None


# --- digests ------------------------------------------------------------------------------------


def bundle_digests(
    directory: Path,
    files: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    others: Iterable[str] = (),
) -> dict[str, Any]:
    """The digests of a bundle that has just been written, as its description keeps them.

    Args:
        directory: the bundle's folder.
        files: part -> name of its file.
        settings: the adapter's, as JSON.
        others: names of further files that belong to it.
    """
    return {
        "files": {name: _file_digest(directory / name) for name in others},
        "settings": settings_digest(settings),
        "weights": {
            name: {key: tensor_digest(value)[:_DIGITS] for key, value in _read(directory / name)}
            for name in files.values()
        },
    }


def check_digests(
    directory: Path,
    files: Mapping[str, str],
    settings: Mapping[str, Any],
    digests: Any,
    *,
    drawing: Any = None,
) -> None:
    """Compare a bundle with the digests that its description keeps.

    Args:
        directory: the bundle's folder.
        files: part -> name of its file.
        settings: the adapter's, as JSON.
        digests: Result of :func:`bundle_digests`, with the recommendation's under ``drawing``;
            None for an older bundle without any.
        drawing: the recommended drawing, as JSON; None: there is none.

    Raises:
        SgfluxError: naming the file, its changed tensors, and what became of them.
    """
    if digests is None:
        return
    try:
        saved = msgspec.convert(digests, _Digests)
        weights = {name: saved.weights[name] for name in files.values()}
    except (msgspec.ValidationError, KeyError) as error:
        raise SgfluxError(
            f"{directory}: its description's digests are damaged: {error}; {WAY_OUT}"
        ) from error
    if (None if drawing is None else settings_digest(drawing)) != saved.drawing:
        raise SgfluxError(
            f"{directory}: the recommended steps, graph scale and sampling (drawing) are not those "
            f"that were saved with the adapter; {WAY_OUT}"
        )
    if settings_digest(settings) != saved.settings:
        raise SgfluxError(
            f"{directory}: the adapter's settings (alpha, rank, blocks, ...) are not those that "
            f"were saved with its weights; {WAY_OUT}"
        )
    for name, digest in saved.files.items():
        if _file_digest(directory / name) != digest:
            raise SgfluxError(
                f"{directory / name}: is not the file that was saved with the adapter; {WAY_OUT}"
            )
    for name, own in weights.items():
        found = {
            key: (tensor_digest(value)[:_DIGITS], value) for key, value in _read(directory / name)
        }
        places = {digest: key for key, digest in own.items()}
        changed = [
            f"{key} ({_became(digest, value, key, places)})"
            for key, (digest, value) in found.items()
            if own.get(key) != digest
        ]
        changed += [f"{key} (missing)" for key in own if key not in found]
        if changed:
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise SgfluxError(
                f"{directory / name}: {len(changed)} of its {len(own)} tensors are not those that "
                f"were saved: {', '.join(changed[:_SHOWN])}{more}; {WAY_OUT}"
            )


def _became(digest: str, value: Tensor, key: str, places: Mapping[str, str]) -> str:
    """What a tensor looks like that is not the one saved."""
    if digest in places and places[digest] != key:
        return f"the values of {places[digest]}"
    if not value.numel() or not bool(value.any()):
        return "all zero"
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(value.to(dtype).to(value.dtype), value):
            return f"values rounded to {str(dtype).removeprefix('torch.')}"
    return "other values"


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SgfluxError(f"{path} cannot be read: {error.strerror or error}; {WAY_OUT}") from error


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the digest of settings, as a bundle's description keeps it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> list[tuple[str, Tensor]]:
    return sorted(read_tensors(path).items())


# --- sizes --------------------------------------------------------------------------------------


def check_sizes(directory: Path, files: Mapping[str, str], config: AdapterConfig) -> None:
    """Compare the files' headers with what the settings need; nothing is allocated.

    Args:
        directory: the bundle's folder.
        files: ``lora``, ``conditioner`` and ``encoder`` -> name of the file.
        config: Settings of the adapter.

    Raises:
        SgfluxError: naming file, tensor, both shapes, or a type other than float32 and float16.
    """
    found = {part: _header(directory / name) for part, name in files.items()}
    # A size that no file supports is found before a model of it is described.
    largest = max((max(shape, default=1) for shape in found["encoder"].values()), default=1)
    for name, value in config.encoder.items():
        if isinstance(value, int) and value > largest:
            raise SgfluxError(
                f"{directory}: the graph encoder's {name} is {value}, which does not fit "
                f"{files['encoder']}, whose largest side is {largest}"
            )
    try:
        with torch.device("meta"):
            names = NameFeatures(config.text_dim)
            encoder = make_encoder(config.encoder, name_features=names)
            conditioner = config.conditioner(encoder)
    except (OverflowError, RuntimeError, TypeError) as error:
        raise SgfluxError(
            f"{directory}: its settings have impossible sizes: {first_line(error)}"
        ) from error
    expected = {
        "lora": _lora_shapes(config),
        "conditioner": shapes_of(dict(conditioner.named_parameters())),
        "encoder": shapes_of(dict(encoder.named_parameters())),
    }
    for part, shapes in expected.items():
        why = "the settings in sgflux_adapter.json need"
        try:
            check_shapes(found[part], shapes, where=directory / files[part], why=why)
        except SgfluxError as error:
            raise SgfluxError(
                f"{error}; the bundle is damaged, or of another version of sgflux: copy it again, "
                "use that version, or train the adapter again"
            ) from error


def _lora_shapes(config: AdapterConfig) -> dict[str, Shape]:
    rank = config.lora_rank
    return {
        f"transformer.{module}.lora_{part}.weight": shape
        for module, (inputs, outputs) in config.lora_layers.items()
        for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))
    }


def _header(path: Path) -> dict[str, Shape]:
    """Name -> shape of a file's tensors, which must be float32 or float16."""
    with naming_damage(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        for name, entry in slices.items():
            if entry.get_dtype() not in ("F32", "F16"):
                raise SgfluxError(
                    f"{path}: {name} is stored as {entry.get_dtype()}, but an adapter's "
                    f"weights are float32 (F32) or float16 (F16); {WAY_OUT.partition(';')[0]}"
                )
        return {name: tuple(entry.get_shape()) for name, entry in slices.items()}
