"""FLUX's encoders in one file each, as people keep them beside ``flux1-schnell.safetensors``.

    ae.safetensors              the autoencoder, in the layout of its first release
    clip_l.safetensors          the first text encoder, CLIP-L
    t5xxl_fp16.safetensors      the second one, T5 v1.1 XXL

All sizes are read off the weights; what weights cannot tell (CLIP's heads of 64, the autoencoder's
groups of 32 and its latent scaling) is FLUX.1's. Tokenizers are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sgflux.errors import SgfluxError

LATENT_SCALE, LATENT_SHIFT = 0.3611, 0.1159
"""Of FLUX.1's autoencoder, which its file does not say."""

_CLIP_HEAD_DIM = 64
_CLIP_UNUSED = ("text_projection.weight", "logit_scale", "text_model.embeddings.position_ids")
"""Of files that hold the CLIP model's other half as well; FLUX reads the pooled output alone."""

_PLAIN = {"norm_out": "conv_norm_out"}
_RESNET = {"nin_shortcut": "conv_shortcut"}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_LEVELS = r"encoder\.down\.(\d+)\."
_STEM = re.compile(r"(encoder|decoder)\.(conv_in|conv_out|norm_out)\.(weight|bias)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(block|attn)_(\d)\.(\w+)\.(weight|bias)")
_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.block\.(\d+)\.(\w+)\.(weight|bias)")
_RESIZE = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(?:down|up)sample\.conv\.(weight|bias)")


# --- the autoencoder ----------------------------------------------------------------------------


def autoencoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """diffusers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    levels = _count(weights, _LEVELS)
    layers = _count(weights, r"encoder\.down\.0\.block\.(\d+)\.")
    if not levels or not layers:
        raise SgfluxError("it is no FLUX.1 autoencoder in the original layout: no encoder.down.0")
    channels = [
        _shape(weights, f"encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)
    ]
    return {
        "in_channels": _shape(weights, "encoder.conv_in.weight")[1],
        "out_channels": _shape(weights, "decoder.conv_out.weight")[0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": _shape(weights, "decoder.conv_in.weight")[1],
        "norm_num_groups": 32,
        "sample_size": 1024,
        "scaling_factor": LATENT_SCALE,
        "shift_factor": LATENT_SHIFT,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in weights,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }


def convert_autoencoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original names -> diffusers'; the decoder's levels are numbered the other way round.

    Raises:
        SgfluxError: on a key that FLUX.1's autoencoder does not have.
    """
    levels = _count(weights, _LEVELS)
    state: dict[str, Tensor] = {}
    for key, value in weights.items():
        if match := _STEM.fullmatch(key):
            half, layer, part = match.groups()
            state[f"{half}.{_PLAIN.get(layer, layer)}.{part}"] = value
        elif match := _MIDDLE.fullmatch(key):
            half, kind, number, layer, part = match.groups()
            if kind == "block":
                name = f"resnets.{int(number) - 1}.{_RESNET.get(layer, layer)}"
            else:
                name = f"attentions.0.{_ATTENTION.get(layer, layer)}"
                # A 1 by 1 convolution over pixels, which is a matrix.
                value = value.flatten(1) if value.ndim == 4 else value
            state[f"{half}.mid_block.{name}.{part}"] = value
        elif match := _BLOCK.fullmatch(key):
            half, way, level, number, layer, part = match.groups()
            place = f"{half}.{_level(way, int(level), levels)}"
            state[f"{place}.resnets.{number}.{_RESNET.get(layer, layer)}.{part}"] = value
        elif match := _RESIZE.fullmatch(key):
            half, way, level, part = match.groups()
            place = f"{half}.{_level(way, int(level), levels)}"
            state[f"{place}.{way}samplers.0.conv.{part}"] = value
        else:
            raise SgfluxError(f"FLUX.1's autoencoder has no {key!r}")
    return state


def _level(way: str, number: int, levels: int) -> str:
    return f"{way}_blocks.{number if way == 'down' else levels - 1 - number}"


# --- the text encoders --------------------------------------------------------------------------


def clip_alone(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights that FLUX reads of CLIP, without the prefix that they may have."""
    return {
        name.removeprefix("text_model."): value
        for name, value in weights.items()
        if name not in _CLIP_UNUSED
    }


def clip_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """transformers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    vocabulary, width = _shape(weights, "embeddings.token_embedding.weight")
    if width % _CLIP_HEAD_DIM:
        raise SgfluxError(f"its width {width} is no multiple of CLIP-L's {_CLIP_HEAD_DIM} a head")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": _shape(weights, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(weights, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": width // _CLIP_HEAD_DIM,
        "max_position_embeddings": _shape(weights, "embeddings.position_embedding.weight")[0],
    }


def convert_t5(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with the one matrix that the library knows under two names."""
    shared = weights.get("shared.weight")
    return {**weights, **({} if shared is None else {"encoder.embed_tokens.weight": shared})}


def t5_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """transformers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    vocabulary, width = _shape(weights, "shared.weight")
    first = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = _shape(weights, f"{first}.relative_attention_bias.weight")
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": _shape(weights, f"{first}.q.weight")[0] // heads,
        "d_ff": _shape(weights, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
        "num_layers": _count(weights, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }


# --- sizes --------------------------------------------------------------------------------------


def _shape(weights: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in weights:
        raise SgfluxError(f"it is another kind of file than expected: no {name}")
    return weights[name].shape


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers, from 0 on, the names have at the pattern's group."""
    found = {int(match[1]) for name in weights if (match := re.match(pattern, name))}
    if found != set(range(len(found))):
        raise SgfluxError(f"its {pattern} are not numbered from 0 on: {sorted(found)}")
    return len(found)
