"""A training adapter file: a published LoRA that is frozen during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn

RANK = 3


def write_training_adapter(path: Path, transformer: FluxTransformer2DModel) -> dict[str, Any]:
    """A LoRA on every linear layer of the blocks, as published ones have it; its weights."""
    generator = torch.Generator().manual_seed(8)
    weights: dict[str, torch.Tensor] = {}
    for name, layer in transformer.named_modules():
        if "transformer_blocks" in name and isinstance(layer, nn.Linear) and "lora" not in name:
            down = torch.randn(RANK, layer.in_features, generator=generator)
            up = torch.randn(layer.out_features, RANK, generator=generator)
            weights[f"transformer.{name}.lora_A.weight"] = 0.1 * down
            weights[f"transformer.{name}.lora_B.weight"] = 0.1 * up
    save_file(weights, path)
    return weights
