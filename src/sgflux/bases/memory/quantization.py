"""The base's frozen matrices in eight or four bits: less memory, not more speed.

    int8, float8   torchao; one scale a row of a matrix
    nf4            bitsandbytes; one scale in 64 numbers, itself in eight bits
                   (Dettmers et al. 2023, arXiv:2305.14314, Section 3)

The matrices that carry the adapter's LoRA stay as they are, and so does everything outside of the
blocks: by those an adapter knows its base. Gradients flow through a quantised matrix to its input.
For that torchao keeps the matrix at full size until the backward pass, so it is gradient
checkpointing that makes it pay; bitsandbytes converts it anew.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sgflux.bases.families import network_of
from sgflux.errors import SgfluxError
from sgflux.settings.memory import QuantizedKind

BITS = {"int8": 8.0, "float8": 8.0, "nf4": 4 + 8 / 64 + 32 / (64 * 256)}
"""What a number takes, its share of the scales included (but those of whole rows)."""

_EXTRAS = {"int8": "quantize", "float8": "quantize", "nf4": "nf4"}
LIBRARIES = {"int8": "torchao", "float8": "torchao", "nf4": "bitsandbytes"}
"""Kind of quantisation -> the optional library that does it."""


def quantizable(
    transformer: Any, *, keep: frozenset[str] = frozenset()
) -> Iterator[tuple[str, nn.Linear]]:
    """The blocks' linear layers, by name, but for those of LoRA and those to be kept.

    Args:
        transformer: the base, with LoRA or without.
        keep: layers whose matrices stay: those that carry the adapter's LoRA.
    """
    blocks = nn.ModuleList(block.module for block in network_of(transformer).blocks)
    inside = set(blocks.modules())
    for name, module in transformer.named_modules():
        kept = ".lora_" in name or name.removesuffix(".base_layer") in keep
        if module in inside and isinstance(module, nn.Linear) and not kept:
            yield name, module


def quantize_base(
    transformer: Any,
    kind: QuantizedKind,
    *,
    keep: frozenset[str],
    device: torch.device | str | None = None,
) -> None:
    """Round the base's matrices in place.

    Args:
        transformer: frozen, with its LoRA in it.
        kind: ``int8``, ``float8`` (e4m3) or ``nf4``.
        keep: Layers that :func:`quantizable` leaves out.
        device: each matrix goes there to be rounded, and stays; None: where it is.

    Raises:
        SgfluxError: if the library that does it is not installed.
    """
    if kind == "nf4":
        _quantize_nf4(transformer, keep=keep, device=device)
        return
    quantize_, settings = _torchao(kind)
    chosen = {name for name, _ in quantizable(transformer, keep=keep)}
    quantize_(transformer, settings, filter_fn=lambda _, name: name in chosen, device=device)


def _quantize_nf4(
    transformer: Any,
    *,
    keep: frozenset[str],
    device: torch.device | str | None,
) -> None:
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise not_installed("nf4") from error
    for name, layer in list(quantizable(transformer, keep=keep)):
        with torch.device("meta"):
            small = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=layer.weight.dtype,
                quant_type="nf4",
            )
        # Its layout for inference on some CPUs is for good, and has no gradient.
        small.support_avx512bf16_for_cpu = False
        small.weight = Params4bit(
            layer.weight.data, requires_grad=False, quant_type="nf4", module=small
        )
        small.bias = layer.bias
        small.to(layer.weight.device if device is None else device)
        transformer.set_submodule(name, small.eval())


def _torchao(kind: QuantizedKind) -> tuple[Any, Any]:
    try:
        from torchao.quantization import (
            Float8WeightOnlyConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise not_installed(kind) from error
    return quantize_, Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()


def not_installed(kind: str) -> SgfluxError:
    """The error of a quantisation whose library is not there: it says how to install it."""
    return SgfluxError(
        f"quantize {kind!r} needs {LIBRARIES[kind]}, which is not installed: "
        f"install sgflux with its extra {_EXTRAS[kind]!r} (in a checkout: python -m pip install "
        f"'.[{_EXTRAS[kind]}]')"
    )


def check_libraries(*, quantize: str) -> None:
    """Check that the optional library of a quantisation is there.

    Raises:
        SgfluxError: naming it and the command that installs it.
    """
    if quantize in LIBRARIES and importlib.util.find_spec(LIBRARIES[quantize]) is None:
        raise not_installed(quantize)
