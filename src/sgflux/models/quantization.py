"""The base's frozen matrices in eight bits, through torchao: less memory, not more speed.

The matrices that carry LoRA stay as they are, and so does everything outside of the blocks: by
those an adapter knows its base. Gradients flow through a quantised matrix to its input; torchao
keeps the matrix at full size for that, so it is gradient checkpointing that makes it pay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from diffusers import FluxTransformer2DModel
from torch import nn

from sgflux.errors import SgfluxError

Quantization = Literal["int8", "float8"]


def quantizable(transformer: FluxTransformer2DModel) -> Iterator[tuple[str, nn.Linear]]:
    """The blocks' linear layers without LoRA, by name."""
    for name, module in transformer.named_modules():
        in_block = name.startswith(("transformer_blocks.", "single_transformer_blocks."))
        of_lora = ".lora_" in name or name.endswith(".base_layer")
        if in_block and isinstance(module, nn.Linear) and not of_lora:
            yield name, module


def quantize_base(transformer: FluxTransformer2DModel, kind: Quantization) -> None:
    """Round the base's matrices to eight bits, one scale a row, in place.

    Args:
        transformer: frozen, with its LoRA in it.
        kind: ``int8``, or ``float8`` (e4m3).

    Raises:
        SgfluxError: if torchao is not installed.
    """
    quantize_, settings = _torchao(kind)
    chosen = {name for name, _ in quantizable(transformer)}
    quantize_(transformer, settings, filter_fn=lambda _, name: name in chosen)


def _torchao(kind: Quantization) -> tuple[Any, Any]:
    try:
        from torchao.quantization import (
            Float8WeightOnlyConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise SgfluxError(
            f"quantize {kind!r} needs torchao, which is not installed: "
            'pip install "sgflux[quantize]"'
        ) from error
    return quantize_, Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig()
