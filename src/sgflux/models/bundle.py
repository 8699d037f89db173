"""An adapter on disk: the bundle.

A bundle is a folder:

    pytorch_lora_weights.safetensors   LoRA alone, in diffusers' layout: FluxPipeline loads it. Its
                                       alpha is the rank; the adapter's own is folded into lora_B
    graph_conditioner.safetensors      ConditionedFlux' own weights
    graph_encoder.safetensors          the graph encoder's weights
    sgflux_adapter.json                what it is, on which base, how good, and the weights' digests
    seen_data.safetensors              digests of what it was trained and selected on
    README.md                          the model card, and the pictures that it shows

All trained weights are float32, whatever the base is in. A bundle may store them in float16; they
are read as float32 again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sgflux.bases.lora_weights import LoraWeights, reduced
from sgflux.bases.name import BaseName
from sgflux.errors import SgfluxError, located
from sgflux.files.finite import check_finite
from sgflux.files.leftovers import replace_folder
from sgflux.files.tensors import read_tensors
from sgflux.files.weights_header import read_header
from sgflux.files.writing import unfinished_folder
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.bundle_checks import (
    WAY_OUT,
    bundle_digests,
    check_digests,
    check_sizes,
    settings_digest,
)
from sgflux.models.bundle_folder import (
    BUNDLE_FORMAT,
    CONFIG_FILE,
    LORA_FILE,
    expect_place,
    read_description,
    standing_folder,
)
from sgflux.settings.drawing import RecommendedDrawing
from sgflux.versions import installed_versions

CONDITIONER_FILE = "graph_conditioner.safetensors"
ENCODER_FILE = "graph_encoder.safetensors"
CARD_FILE = "README.md"

_FILES = {"lora": LORA_FILE, "conditioner": CONDITIONER_FILE, "encoder": ENCODER_FILE}
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors")
"""Whose versions are noted, beside sgflux's own in the adapter's settings."""


def save_bundle(
    directory: str | os.PathLike[str],
    *,
    config: AdapterConfig,
    state: Mapping[str, Tensor],
    card: str,
    metrics: Mapping[str, Any],
    pictures: Mapping[str, bytes] | None = None,
    base: BaseName | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle, all of it or nothing; an older one in its place is replaced.

    Args:
        directory: the bundle's folder.
        config: Description of the adapter.
        state: :meth:`GraphLoraModel.trainable_state`'s form.
        card: the text of its README.md.
        metrics: Figures of the adapter, plain JSON.
        pictures: file name -> PNG, for the card.
        base: Name under which the base is found; None: the bundle does not say it.
        files: name -> content of what else belongs to it, like the digests of its training data.

    Raises:
        SgfluxError: if there is something else in the folder, a weight is not float32, or a file
            cannot be written.
    """
    directory = Path(directory)
    expect_place(directory)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _FILES}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part not in parts or value.dtype != torch.float32:
            raise SgfluxError(f"{name} ({value.dtype}) is no trained float32 weight of an adapter")
        parts[part][rest] = value.detach().cpu().contiguous()
    check_finite(state, where=directory)
    lora = LoraWeights.with_alpha(parts["lora"], config.lora_alpha)
    description = {
        "format": BUNDLE_FORMAT,
        "adapter": config.to_json(),
        "base_model": None if base is None else base.to_json(),
        "metrics": dict(metrics),
        "versions": installed_versions(_LIBRARIES),
    }
    size = sum(value.nbytes for value in state.values())
    with unfinished_folder(directory, size=size) as temporary:
        config.family.write_lora(temporary / LORA_FILE, lora, layout="diffusers")
        for part in ("conditioner", "encoder"):
            # Not save_file, since safetensors 0.8 lets nobody but the user read what it writes.
            content = save(parts[part], metadata={"format": "pt"})
            (temporary / _FILES[part]).write_bytes(content)
        (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        for name, content in {**(pictures or {}), **(files or {})}.items():
            (temporary / name).write_bytes(content)
        description["digests"] = bundle_digests(
            temporary, _FILES, config.to_json(), others=files or ()
        )
        _write_description(temporary, description)
        replace_folder(temporary, directory)


def load_bundle(directory: str | os.PathLike[str]) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Read a bundle: what the adapter is, and its weights on the CPU.

    The LoRA's weights are those that belong to the settings' ``lora_alpha``, whatever alpha its
    file has: older bundles keep the adapter's own there.

    Raises:
        SgfluxError: if a file is missing or damaged, not the one that was saved, does not fit the
            settings, or holds weights that are not finite; the message names it.
    """
    directory = standing_folder(directory)
    config = read_config(directory)
    check_sizes(directory, _FILES, config)
    lora = config.family.read_lora(directory / LORA_FILE).in_float32()
    description = read_description(directory / CONFIG_FILE)
    check_digests(
        directory,
        _FILES,
        description["adapter"],
        description.get("digests"),
        drawing=description.get("drawing"),
    )
    _check_alpha(lora, config, directory)
    lora = lora.at_alpha(config.lora_alpha)
    state = {f"lora.{name}": value for name, value in lora.weights.items()}
    for part in ("conditioner", "encoder"):
        path = directory / _FILES[part]
        weights = read_tensors(path)
        check_finite(weights, where=path)
        state |= {f"{part}.{key}": value.float() for key, value in weights.items()}
    return config, state


def reduce_rank(directory: Path, rank: int) -> str:
    """Reduce the rank of a bundle's LoRA, in its files.

    Args:
        directory: Folder of the bundle.
        rank: New rank, which becomes alpha as well.

    Returns:
        A sentence on what was kept, see :func:`~sgflux.bases.lora_weights.reduced`.

    Raises:
        SgfluxError: if the bundle is damaged.
    """
    config, state = load_bundle(directory)
    lora, kept = lora_of(config, state).at_rank(rank)
    stored = read_header(directory / LORA_FILE)
    is_half = all(tensor.dtype == "F16" for tensor in stored.values())
    config.family.write_lora(directory / LORA_FILE, lora, layout="diffusers")
    description = read_description(directory / CONFIG_FILE)
    description["adapter"] |= {"lora_rank": rank, "lora_alpha": float(rank)}
    _write_digests(directory, description)
    if is_half:
        store_in_half(directory)
    return reduced(kept, before=config.lora_rank, after=rank)


def check_reducible(directory: Path, config: AdapterConfig, rank: int) -> None:
    """Check that a bundle's LoRA has a greater rank than the one it is to be reduced to.

    Raises:
        SgfluxError: if it has not.
    """
    if config.lora_rank <= rank:
        raise SgfluxError(
            f"lora_rank {rank}: the LoRA of {directory} has rank {config.lora_rank}; give less"
        )


def is_rounded_by_half(directory: Path) -> bool:
    """Return whether float16 rounds any weight of a bundle, and write nothing.

    Raises:
        SgfluxError: as :func:`store_in_half`.
    """
    load_bundle(directory)
    is_rounded = False
    for path in (directory / name for name in _FILES.values()):
        weights = read_tensors(path)
        for name, half in _in_half(weights, path).items():
            is_rounded |= not torch.equal(weights[name], half.to(weights[name].dtype))
    return is_rounded


def store_in_half(directory: Path) -> None:
    """Round the weights of a bundle to float16, in its files, which become half as large.

    Raises:
        SgfluxError: if the bundle is damaged, or a weight is beyond what float16 holds.
    """
    load_bundle(directory)  # whose digests are compared before they are replaced
    for path in (directory / name for name in _FILES.values()):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        path.write_bytes(save(_in_half(read_tensors(path), path), metadata=metadata))
    _write_digests(directory, read_description(directory / CONFIG_FILE))


def _in_half(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    halves = {name: value.half() for name, value in weights.items()}
    beyond = "float16 holds no greater ones; publish the adapter without half"
    check_finite(halves, where=f"{path} in float16", way_out=beyond)
    return halves


def _write_digests(directory: Path, description: dict[str, Any]) -> None:
    """Write a bundle's description with the digests of what its files are now."""
    saved = description.get("digests") or {}
    found = bundle_digests(directory, _FILES, description["adapter"], others=saved.get("files", ()))
    description["digests"] = {**saved, **found}
    _write_description(directory, description)


def recommend_drawing(directory: Path, drawing: RecommendedDrawing) -> None:
    """Note in a bundle how its adapter is drawn best; what ``drawing`` leaves open stays.

    Raises:
        SgfluxError: if the folder is no bundle.
    """
    description = read_description(directory / CONFIG_FILE)
    description["drawing"] = {**description.get("drawing", {}), **drawing.to_json()}
    if "digests" in description:
        description["digests"]["drawing"] = settings_digest(description["drawing"])
    _write_description(directory, description)


def _write_description(directory: Path, description: Mapping[str, Any]) -> None:
    text = json.dumps(description, indent=2) + "\n"
    (directory / CONFIG_FILE).write_text(text, encoding="utf-8")


def lora_of(config: AdapterConfig, state: Mapping[str, Tensor]) -> LoraWeights:
    """The LoRA of what :func:`load_bundle` returns."""
    weights = {n.removeprefix("lora."): v for n, v in state.items() if n.startswith("lora.")}
    return LoraWeights.with_alpha(weights, config.lora_alpha)


def _check_alpha(lora: LoraWeights, config: AdapterConfig, directory: Path) -> None:
    """The LoRA file's alpha is its rank, and in bundles of before the adapter's own."""
    for module, alpha in lora.alphas.items():
        if alpha not in (float(lora.ranks[module]), config.lora_alpha):
            raise SgfluxError(
                f"{directory / LORA_FILE}: the alpha of {module} is {alpha:g}, which contradicts "
                f"lora_alpha {config.lora_alpha:g} (rank {config.lora_rank}) in {CONFIG_FILE}; "
                f"{WAY_OUT}"
            )


def read_config(directory: str | os.PathLike[str]) -> AdapterConfig:
    """What the adapter of a bundle is, without its weights.

    Raises:
        SgfluxError: if the folder is no bundle, or its description is damaged.
    """
    path = standing_folder(directory) / CONFIG_FILE
    description = read_description(path)
    with located(path, KeyError, TypeError):
        return AdapterConfig.from_json(description["adapter"])
