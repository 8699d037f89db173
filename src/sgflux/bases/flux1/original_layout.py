"""FLUX's transformer in one file, as it was first released: ``flux1-schnell.safetensors``.

The original keeps query, key and value (in single blocks, the feed-forward's first matrix as well)
in one matrix, and shift before scale in its last norm. All sizes are read off the weights.

Shapes: D inner width, 128 a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sgflux.errors import SgfluxError

_HEAD_DIM = 128
_AXES = (16, 56, 56)
_PREFIX = "model.diffusion_model."
"""Of files that hold more than the transformer, as ComfyUI writes them."""

_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
DOUBLE_FUSED: dict[str, tuple[str, ...]] = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
SINGLE_FUSED: dict[str, tuple[str, ...]] = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
}


def transformer_alone(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The transformer's weights, without the prefix that they have where others stand beside."""
    if not any(name.startswith(_PREFIX) for name in weights):
        return weights
    return {
        name.removeprefix(_PREFIX): value
        for name, value in weights.items()
        if name.startswith(_PREFIX)
    }


def original_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of diffusers' model for these weights.

    Raises:
        SgfluxError: if a weight that tells a size is missing, or heads are not 128 wide.
    """

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise SgfluxError(f"it is no FLUX.1 transformer in the original layout: no {name}")
        return weights[name].shape

    head = shape("double_blocks.0.img_attn.norm.query_norm.scale")[0]
    if head != _HEAD_DIM:
        raise SgfluxError(f"its heads are {head} wide, FLUX.1's are {_HEAD_DIM}")
    return {
        "patch_size": 1,
        "in_channels": shape("img_in.weight")[1],
        "out_channels": shape("final_layer.linear.weight")[0],
        "num_layers": _count(weights, "double_blocks"),
        "num_single_layers": _count(weights, "single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": shape("img_in.weight")[0] // head,
        "joint_attention_dim": shape("txt_in.weight")[1],
        "pooled_projection_dim": shape("vector_in.in_layer.weight")[1],
        "guidance_embeds": "guidance_in.in_layer.weight" in weights,
        "axes_dims_rope": _AXES,
    }


def convert_original(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original names and matrices -> diffusers'.

    Raises:
        SgfluxError: on a key that FLUX.1 does not have.
    """
    state: dict[str, Tensor] = {}
    for key, value in weights.items():
        module, _, part = key.rpartition(".")
        part = "weight" if part == "scale" else part
        for target, piece in original_targets(module, value):
            state[f"{target}.{part}"] = piece
    return state


def original_targets(module: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """diffusers' modules that an original one becomes, each with its rows of ``value``.

    Args:
        module: Name like ``double_blocks.7.img_attn.qkv``.
        value: Weight or bias of the module, or the upper factor of a LoRA on it.

    Raises:
        SgfluxError: if FLUX.1's transformer has no such module.
    """
    if module == "final_layer.adaLN_modulation.1":
        shift, scale = value.chunk(2)
        return [("norm_out.linear", torch.cat([scale, shift]))]
    if module in _OUTSIDE:
        return [(_OUTSIDE[module], value)]
    kind, _, rest = module.partition(".")
    index, _, layer = rest.partition(".")
    tables = {
        "double_blocks": ("transformer_blocks", DOUBLE, DOUBLE_FUSED),
        "single_blocks": ("single_transformer_blocks", SINGLE, SINGLE_FUSED),
    }
    if kind in tables and index.isdigit():
        name, alone, fused = tables[kind]
        if layer in alone:
            return [(f"{name}.{index}.{alone[layer]}", value)]
        if layer in fused:
            parts = fused[layer]
            # linear1 is 3 D + 4 D rows high.
            inner = value.shape[0] // (3 if len(parts) == 3 else 7)
            sizes = [inner] * 3 + [value.shape[0] - 3 * inner] * (len(parts) - 3)
            pieces = value.split(sizes)
            return [
                (f"{name}.{index}.{part}", piece.contiguous())
                for part, piece in zip(parts, pieces, strict=True)
            ]
    raise SgfluxError(f"FLUX.1's transformer has no {module!r}")


def module_names() -> tuple[dict[str, str], dict[str, str]]:
    """Names with underscores for dots, as kohya's layout has them, and what they stand for.

    Returns:
        The original release's names and diffusers' names, each by its name with underscores, and
        those of layers in blocks without the block (``img_attn_qkv`` -> ``img_attn.qkv``).
    """
    originals = [*_OUTSIDE, "final_layer.adaLN_modulation.1"]
    theirs = [*_OUTSIDE.values(), "norm_out.linear"]
    for alone, fused in ((DOUBLE, DOUBLE_FUSED), (SINGLE, SINGLE_FUSED)):
        originals += [*alone, *fused]
        theirs += [*alone.values(), *(part for parts in fused.values() for part in parts)]
    return (
        {name.replace(".", "_"): name for name in originals},
        {name.replace(".", "_"): name for name in theirs},
    )


def _count(weights: Mapping[str, Tensor], kind: str) -> int:
    numbers = {int(name.split(".")[1]) for name in weights if name.startswith(f"{kind}.")}
    if numbers != set(range(len(numbers))):
        raise SgfluxError(f"its {kind} are not numbered from 0 on: {sorted(numbers)}")
    return len(numbers)
