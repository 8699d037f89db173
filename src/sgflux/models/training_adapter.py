"""The training adapter: a frozen LoRA that is active in training and absent in sampling.

FLUX.1-schnell was distilled to few steps, and plain training wears that down: the adapter that
learns also learns to undo it. With a training adapter in the base, which has undone it already,
there is nothing left to undo. It is an ordinary LoRA in any layout that the base's family reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from sgflux.bases.families import family_of_transformer
from sgflux.bases.lora_weights import LoraWeights
from sgflux.errors import SgfluxError
from sgflux.models.lora_switch import restore, switched_off

TRAINING_NAME = "for_training"
"""peft's name of it."""

_PREFIX = "transformer"


class TrainingAdapter:
    """The LoRA layers that a training adapter is in; on unless it is switched off.

    Attributes:
        layers: Layers by their names in the transformer.
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
        with switched_off(self.layers.values(), TRAINING_NAME):
            yield


def add_training_adapter(transformer: Any, path: Path) -> TrainingAdapter:
    """Put a training adapter into a transformer, frozen and switched on.

    Args:
        transformer: the base, with another LoRA in it or without; not quantised yet.
        path: the LoRA's file, see :func:`find_training_adapter`.

    Raises:
        SgfluxError: if the file cannot be read, or a key in it is no LoRA weight of a linear layer
            of this transformer; the message names it.
    """
    lora = family_of_transformer(transformer).read_lora(path).folded()
    _check_fits(transformer, lora, path)
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
                {f"{_PREFIX}.{name}": value for name, value in lora.weights.items()},
                prefix=_PREFIX,
                adapter_name=TRAINING_NAME,
            )
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SgfluxError(f"{path}: peft cannot put it into this model: {error}") from error
    layers = {name: transformer.get_submodule(name) for name in lora.modules}
    _check_taken_over(layers, lora, path)
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            own = [TRAINING_NAME] if name in layers else []
            module.set_adapter([*own, *active.get(name, [])])
    for layer in layers.values():
        for part in (layer.lora_A[TRAINING_NAME], layer.lora_B[TRAINING_NAME]):
            part.to(transformer.dtype).requires_grad_(False)
    restore(trained)
    return TrainingAdapter(layers)


def check_training_adapter_file(transformer: Any, path: Path) -> None:
    """Check that :func:`add_training_adapter` can take a file, without changing anything.

    Args:
        transformer: the base; its weights are not looked at, so it may be on the device ``meta``.
        path: the LoRA's file.

    Raises:
        SgfluxError: as there.
    """
    _check_fits(transformer, family_of_transformer(transformer).read_lora(path), path)


def _check_fits(transformer: Any, lora: LoraWeights, path: Path) -> None:
    """Every layer of the file must be a linear layer of this transformer, of the same size."""
    for name in lora.modules:
        try:
            layer: Any = transformer.get_submodule(name)
        except AttributeError:
            layer = None
        layer = getattr(layer, "base_layer", layer)
        if not isinstance(layer, nn.Linear):
            raise SgfluxError(f"{path}: this model has no linear layer {name}")
        for part, size in (("A", layer.in_features), ("B", layer.out_features)):
            key = f"{name}.lora_{part}.weight"
            shape = tuple(lora.weights[key].shape)
            if shape[1 if part == "A" else 0] != size:
                raise SgfluxError(
                    f"{path}: {key} is {shape}, but that layer of this model "
                    f"{'takes' if part == 'A' else 'gives'} {size} numbers; the file belongs to a "
                    "model of another width"
                )


def _check_taken_over(layers: Mapping[str, Any], lora: LoraWeights, path: Path) -> None:
    """Every weight of the file must be where it belongs, and act as strongly as it should."""
    for name, layer in layers.items():
        for part, held in (("A", layer.lora_A), ("B", layer.lora_B)):
            key = f"{name}.lora_{part}.weight"
            if TRAINING_NAME not in held:
                raise SgfluxError(f"{path}: {key} was not taken over")
            own = held[TRAINING_NAME].weight
            if not torch.equal(own, lora.weights[key].to(own)):
                raise SgfluxError(f"{path}: {key} was not taken over")
        if layer.scaling[TRAINING_NAME] != 1:
            raise SgfluxError(f"{path}: {name} acts {layer.scaling[TRAINING_NAME]:g} times")
