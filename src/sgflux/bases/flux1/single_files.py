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
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sgflux.bases.weight_files import holds_weights, read_weights
from sgflux.errors import SgfluxError
from sgflux.files.weights_header import read_header

LATENT_SCALE, LATENT_SHIFT = 0.3611, 0.1159
"""Of FLUX.1's autoencoder, which its file does not say."""

_CLIP_HEAD_DIM = 64
_CLIP_PREFIX = "text_model."
_CLIP_UNUSED = ("text_projection.weight", "logit_scale", "text_model.embeddings.position_ids")
"""Of files that hold the CLIP model's other half as well; FLUX reads the pooled output alone."""

_T5_UNUSED = ("encoder.embed_tokens.weight",)
"""A second copy of ``shared.weight``."""

_PLAIN = {"norm_out": "conv_norm_out"}
_RESNET = {"nin_shortcut": "conv_shortcut"}
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_STEM = re.compile(r"(encoder|decoder)\.(conv_in|conv_out|norm_out)\.(weight|bias)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(block|attn)_(\d)\.(\w+)\.(weight|bias)")
_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.block\.(\d+)\.(\w+)\.(weight|bias)")
_RESIZE = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(?:down|up)sample\.conv\.(weight|bias)")


# --- the autoencoder ----------------------------------------------------------------------------


def load_original_autoencoder(path: Path, *, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder of an original-layout file, in ``dtype`` on the CPU.

    Raises:
        SgfluxError: if the file cannot be read, or holds something else; the message names the key.
    """
    settings, state = original_autoencoder_state(path)
    with torch.device("meta"):
        autoencoder = AutoencoderKL.from_config(settings)
    return _filled(autoencoder, state, path, dtype=dtype)


def original_autoencoder_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """diffusers' settings and weights for an original-layout file, in the file's precision.

    Raises:
        SgfluxError: if the file cannot be read or has an unknown key.
    """
    weights = read_weights(path)
    settings = _in_file(path, autoencoder_config, weights)
    return settings, _in_file(
        path, convert_autoencoder, weights, len(settings["block_out_channels"])
    )


def autoencoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """diffusers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    levels = _count(weights, r"encoder\.down\.(\d+)\.")
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


def convert_autoencoder(weights: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Original names -> diffusers'; the decoder's levels are numbered the other way round.

    Raises:
        SgfluxError: on a key that FLUX.1's autoencoder does not have.
    """
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


def load_clip(path: Path, *, end_token: int, dtype: torch.dtype) -> CLIPTextModel:
    """CLIP's text model of a file, in ``dtype`` on the CPU.

    Args:
        path: File like ``clip_l.safetensors``; keys with ``text_model.`` before them or without.
        end_token: id of the token at which the pooled output is read.
        dtype: Precision of the weights.

    Raises:
        SgfluxError: if the file cannot be read, or holds something else; the message names the key.
    """
    weights = _clip_weights(path)
    config = _in_file(path, clip_config, weights, end_token)
    with torch.random.fork_rng(devices=[]):  # it is small, and has buffers that no file has
        model = CLIPTextModel(config)
    return _filled(model, weights, path, dtype=dtype)


def clip_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """transformers' settings and weights for a CLIP file, in the file's precision.

    Raises:
        SgfluxError: if the file cannot be read, or lacks a weight that tells a size.
    """
    weights = _clip_weights(path)
    return _in_file(path, clip_config, weights, 0).to_dict(), weights


def _clip_weights(path: Path) -> dict[str, Tensor]:
    return {
        name.removeprefix(_CLIP_PREFIX): value
        for name, value in read_weights(path).items()
        if name not in _CLIP_UNUSED
    }


def clip_config(weights: Mapping[str, Tensor], end_token: int) -> CLIPTextConfig:
    """transformers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    vocabulary, width = _shape(weights, "embeddings.token_embedding.weight")
    if width % _CLIP_HEAD_DIM:
        raise SgfluxError(f"its width {width} is no multiple of CLIP-L's {_CLIP_HEAD_DIM} a head")
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=_shape(weights, "encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=_count(weights, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // _CLIP_HEAD_DIM,
        max_position_embeddings=_shape(weights, "embeddings.position_embedding.weight")[0],
        eos_token_id=end_token,
    )


def load_t5(path: Path, *, dtype: torch.dtype) -> T5EncoderModel:
    """T5's encoder of a file, in ``dtype`` on the CPU.

    Args:
        path: File like ``t5xxl_fp16.safetensors``.
        dtype: Precision of the weights.

    Raises:
        SgfluxError: if the file cannot be read, or holds something else; the message names the key.
    """
    weights = _t5_weights(path)
    config = _in_file(path, t5_config, weights)
    with torch.device("meta"):
        model = T5EncoderModel(config)
    state = dict(weights)
    if "shared.weight" in state:  # one matrix under two names
        state["encoder.embed_tokens.weight"] = state["shared.weight"]
    model = _filled(model, state, path, dtype=dtype)
    model.tie_weights()
    return model


def t5_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """transformers' settings and weights for a T5 file, in the file's precision.

    Raises:
        SgfluxError: if the file cannot be read, or lacks a weight that tells a size.
    """
    weights = _t5_weights(path)
    return _in_file(path, t5_config, weights).to_dict(), weights


def _t5_weights(path: Path) -> dict[str, Tensor]:
    return {name: value for name, value in read_weights(path).items() if name not in _T5_UNUSED}


def t5_config(weights: Mapping[str, Tensor]) -> T5Config:
    """transformers' settings for these weights, of which only the shapes are looked at.

    Raises:
        SgfluxError: if a weight that tells a size is missing.
    """
    vocabulary, width = _shape(weights, "shared.weight")
    first = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = _shape(weights, f"{first}.relative_attention_bias.weight")
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=_shape(weights, f"{first}.q.weight")[0] // heads,
        d_ff=_shape(weights, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
        num_layers=_count(weights, r"encoder\.block\.(\d+)\."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )


# --- files --------------------------------------------------------------------------------------


def described(path: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """The file's weights without their values, on the device ``meta``, from its header alone.

    Args:
        path: the file.
        prefix: taken off the names that have it.

    Raises:
        SgfluxError: if it cannot be read.
    """
    return {
        name.removeprefix(prefix): torch.empty(stored.shape, device="meta")
        for name, stored in read_header(path).items()
        if holds_weights(name)
    }


def described_autoencoder(path: Path) -> dict[str, Any]:
    """See :func:`autoencoder_config`; reads the header alone."""
    return _in_file(path, autoencoder_config, described(path))


def described_clip(path: Path) -> CLIPTextConfig:
    """See :func:`clip_config`; reads the header alone, and knows no end token."""
    return _in_file(path, clip_config, described(path, prefix=_CLIP_PREFIX), 0)


def described_t5(path: Path) -> T5Config:
    """See :func:`t5_config`; reads the header alone."""
    return _in_file(path, t5_config, described(path))


def _in_file(path: Path, function: Any, *arguments: Any) -> Any:
    """``function(*arguments)``, whose errors name the file."""
    try:
        return function(*arguments)
    except SgfluxError as error:
        raise SgfluxError(f"{path}: {error}") from error


def _filled(module: Any, state: Mapping[str, Tensor], path: Path, *, dtype: torch.dtype) -> Any:
    """The module with exactly these weights."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name, shape in expected.items():
        found = tuple(state[name].shape) if name in state else "missing"
        if found != shape:
            raise SgfluxError(f"{path}: the weights of {name} are {found}, expected {shape}")
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise SgfluxError(f"{path}: has {unknown[0]!r}, which such a model does not have")
    weights = {name: value.to(dtype) for name, value in state.items()}
    module.load_state_dict(weights, strict=True, assign=True)
    return module


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
