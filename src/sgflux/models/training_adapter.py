"""The training adapter: a frozen LoRA that is active in training and absent in sampling.

FLUX.1-schnell was distilled to few steps, and plain training wears that down: the adapter that
learns also learns to undo it. With a training adapter in the base, which has undone it already,
there is nothing left to undo. It is an ordinary LoRA of FLUX in any layout that diffusers reads.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from huggingface_hub import snapshot_download
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sgflux.errors import SgfluxError
from sgflux.models.bundle import LORA_FILE
from sgflux.models.hub_errors import why_not_loaded
from sgflux.models.lora_formats import METADATA_KEY

TRAINING_NAME = "for_training"
"""peft's name of it."""

_PREFIX = "transformer."


class TrainingAdapter:
    """The LoRA layers that a training adapter is in; on unless it is switched off.

    Attributes:
        layers: by their name in the transformer.
    """

    def __init__(self, layers: Mapping[str, LoraLayer]) -> None:
        """Keep the layers; :func:`add_training_adapter` makes them."""
        self.layers = dict(layers)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Within it the base is itself; other adapters stay as they are.

        A recomputation in a backward pass must be switched off anew, see
        :meth:`~sgflux.models.conditioning.ConditionedFlux.suffix`.
        """
        trained = {
            weight: weight.requires_grad
            for layer in self.layers.values()
            for weight in layer.parameters()
        }
        active = {name: list(layer.active_adapters) for name, layer in self.layers.items()}
        disabled = {name: layer.disable_adapters for name, layer in self.layers.items()}
        for name, layer in self.layers.items():
            others = [adapter for adapter in active[name] if adapter != TRAINING_NAME]
            if others:
                layer.set_adapter(others)
            else:
                layer.enable_adapters(False)
        try:
            _restore(trained)
            yield
        finally:
            for name, layer in self.layers.items():
                layer.set_adapter(active[name])
                layer.enable_adapters(not disabled[name])
            # peft's switches also decide what is trained; that is not this function's to change.
            _restore(trained)


def find_training_adapter(source: str, *, allow_download: bool) -> Path:
    """The file of a training adapter.

    Args:
        source: a ``.safetensors`` file, a folder, or an id on the hub, with ``@revision`` behind
            it or without. Folder and repository have ``pytorch_lora_weights.safetensors``, or
            one ``.safetensors`` file of another name.
        allow_download: fetch it from the hub if it is not on this machine.

    Raises:
        SgfluxError: if it cannot be found.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _only_file(path, source)
    is_path = path.suffix == ".safetensors" or path.is_absolute() or source.startswith((".", "~"))
    if path.is_file():
        return path
    if is_path:
        raise SgfluxError(
            f"training_adapter {source!r}: there is no file {str(path)!r}; give a .safetensors "
            f"file, a folder with {LORA_FILE}, or an id on the hub"
        )
    repo_id, _, revision = source.partition("@")
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision or None,
            local_files_only=not allow_download,
            allow_patterns=["*.safetensors"],
        )
    except (OSError, ValueError) as error:
        raise SgfluxError(
            f"training_adapter {source!r} cannot be loaded: "
            + why_not_loaded(
                error, repo_id, allow_download=allow_download, revision=revision or None
            )
        ) from error
    return _only_file(Path(folder), source)


def _only_file(folder: Path, source: str) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    own = folder / LORA_FILE
    if own in files or len(files) == 1:
        return own if own in files else files[0]
    names = ", ".join(file.name for file in files) or "none"
    raise SgfluxError(
        f"training_adapter {source!r}: expected {LORA_FILE} or one .safetensors file, found "
        f"{names}; give the file itself"
    )


def add_training_adapter(transformer: FluxTransformer2DModel, path: Path) -> TrainingAdapter:
    """Put a training adapter into a transformer, frozen and switched on.

    Args:
        transformer: the base, with another LoRA in it or without; not quantised yet.
        path: the LoRA's file, see :func:`find_training_adapter`.

    Raises:
        SgfluxError: if the file cannot be read, or a key in it is no LoRA weight of a linear layer
            of this transformer; the message names it.
    """
    state, alphas, metadata = _read(path)
    modules = _checked_modules(transformer, state, path)
    active = {
        name: list(module.active_adapters)
        for name, module in transformer.named_modules()
        if isinstance(module, LoraLayer)
    }
    trained = {weight: weight.requires_grad for weight in transformer.parameters()}
    try:
        with warnings.catch_warnings():
            # Two LoRAs in one model are the intention.
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            transformer.load_lora_adapter(
                state,
                prefix=_PREFIX.removesuffix("."),
                adapter_name=TRAINING_NAME,
                network_alphas=alphas or None,
                metadata=None if alphas else metadata,
            )
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SgfluxError(f"{path}: peft cannot put it into this model: {error}") from error
    layers = {name: transformer.get_submodule(name) for name in modules}
    _check_taken_over(layers, state, path)
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            own = [TRAINING_NAME] if name in layers else []
            module.set_adapter([*own, *active.get(name, [])])
    for layer in layers.values():
        for part in (layer.lora_A[TRAINING_NAME], layer.lora_B[TRAINING_NAME]):
            part.to(transformer.dtype).requires_grad_(False)
    _restore(trained)
    return TrainingAdapter(layers)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any] | None]:
    """Weights under diffusers' names, alphas by name, and the header's settings, if it has some."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise SgfluxError(f"{path} cannot be read: {error}") from error
    foreign = [name for name in tensors if "dora_scale" in name]
    if foreign:
        raise SgfluxError(f"{path}: {foreign[0]}: DoRA is no LoRA")
    try:
        state, alphas = FluxPipeline.lora_state_dict(dict(tensors), return_alphas=True)
        metadata = json.loads(header[METADATA_KEY]) if METADATA_KEY in header else None
    except (KeyError, ValueError) as error:
        raise SgfluxError(f"{path}: is no LoRA of FLUX that diffusers can read: {error}") from error
    return state, alphas or {}, metadata


def _checked_modules(
    transformer: FluxTransformer2DModel, state: Mapping[str, Tensor], path: Path
) -> list[str]:
    """The layers that the weights are of."""
    modules: dict[str, None] = {}
    for key, value in state.items():
        name, _, ending = key.removeprefix(_PREFIX).rpartition(".lora_")
        if not key.startswith(_PREFIX) or ending not in ("A.weight", "B.weight"):
            raise SgfluxError(f"{path}: {key} is no LoRA weight of FLUX's transformer")
        try:
            layer: Any = transformer.get_submodule(name)
        except AttributeError:
            layer = None
        layer = getattr(layer, "base_layer", layer)
        if not isinstance(layer, nn.Linear):
            raise SgfluxError(f"{path}: {key}: this model has no linear layer {name}")
        is_down = ending == "A.weight"
        size, own = (
            (layer.in_features, value.shape[1]) if is_down else (layer.out_features, value.shape[0])
        )
        if size != own:
            raise SgfluxError(
                f"{path}: {key} is {tuple(value.shape)}, but that layer of this model "
                f"{'takes' if is_down else 'gives'} {size} numbers"
            )
        modules[name] = None
    if not modules:
        raise SgfluxError(f"{path}: has no LoRA weight of FLUX's transformer")
    return list(modules)


def _check_taken_over(layers: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> None:
    """Every weight of the file must be where it belongs."""
    for name, layer in layers.items():
        for part, held in (("A", layer.lora_A), ("B", layer.lora_B)):
            key = f"{_PREFIX}{name}.lora_{part}.weight"
            given = state.get(key)
            if TRAINING_NAME not in held or given is None:
                raise SgfluxError(f"{path}: {key} is missing")
            own = held[TRAINING_NAME].weight
            if not torch.equal(own, given.to(own)):
                raise SgfluxError(f"{path}: {key} was not taken over")


def _restore(trained: Mapping[nn.Parameter, bool]) -> None:
    for weight, requires_grad in trained.items():
        weight.requires_grad_(requires_grad)
