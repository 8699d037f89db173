"""Switching a LoRA off for a while, in layers that may have others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from peft.tuners.lora import LoraLayer
from torch import nn


@contextmanager
def switched_off(layers: Iterable[LoraLayer], name: str) -> Iterator[None]:
    """Within it a LoRA is off; other adapters, and what is trained, stay as they are.

    Args:
        layers: Layers that the LoRA is in.
        name: peft's name of it.
    """
    layers = list(layers)
    trained = {weight: weight.requires_grad for layer in layers for weight in layer.parameters()}
    active = [list(layer.active_adapters) for layer in layers]
    disabled = [layer.disable_adapters for layer in layers]
    for layer, names in zip(layers, active, strict=True):
        others = [other for other in names if other != name]
        if others:
            layer.set_adapter(others)
        else:
            layer.enable_adapters(False)
    try:
        restore(trained)
        yield
    finally:
        for layer, names, was_disabled in zip(layers, active, disabled, strict=True):
            layer.set_adapter(names)
            layer.enable_adapters(not was_disabled)
        # peft's switches also decide what is trained; that is not this function's to change.
        restore(trained)


def restore(trained: Mapping[nn.Parameter, bool]) -> None:
    """Say again of each weight whether it is trained."""
    for weight, requires_grad in trained.items():
        weight.requires_grad_(requires_grad)
