"""Single files of weights as they are passed around, with 8-bit weights as plain ones again.

ComfyUI's "scaled fp8" files keep matrices in 8 bits with a factor for each:

    scaled_fp8                 an empty mark
    <layer>.weight             float8_e4m3fn or float8_e5m2
    <layer>.scale_weight       the factor by which the weight is multiplied
    <layer>.scale_input        a factor for inputs in 8-bit arithmetic, of no use here

or, in files of its later versions, ``weight_scale``, ``input_scale`` and ``comfy_quant``, a JSON
text that names the format. Such a weight times its factor is rounded to bf16, FLUX's own precision.
Files in 8 bits without factors hold the weights themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sgflux.errors import SgfluxError, located
from sgflux.files.tensors import read_tensors
from sgflux.files.weights_header import read_header

_MARKS = ("scaled_fp8", "spiece_model")
"""Keys that hold no weights: the mark of such a file, and a tokenizer's own file."""
_SCALES = ("scale_weight", "weight_scale")
_ASIDE = (*_SCALES, "scale_input", "input_scale", "comfy_quant")
_FORMATS = ("float8_e4m3fn", "float8_e5m2")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a ``.safetensors`` file, those with a factor multiplied by it.

    Raises:
        SgfluxError: if it cannot be read, or its weights are quantised in another way.
    """
    read_header(path)  # says better than the library what is wrong with a file
    tensors = read_tensors(path)
    with located(path):
        return _plain(tensors)


def numbers_in_file(path: Path) -> int:
    """Number of the numbers in all weights of a file, from its header.

    Raises:
        SgfluxError: if it cannot be read.
    """
    stored = read_header(path).items()
    return sum(math.prod(entry.shape) for key, entry in stored if holds_weights(key))


def holds_weights(key: str) -> bool:
    """Whether a key is a weight's, and not a factor beside one or a mark."""
    return key.rpartition(".")[2] not in (*_ASIDE, *_MARKS)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {key: value for key, value in tensors.items() if holds_weights(key)}
    for key, value in tensors.items():
        layer, _, part = key.rpartition(".")
        if part == "comfy_quant":
            _check_format(key, value)
        if part not in _SCALES:
            continue
        name = f"{layer}.weight"
        if name not in weights:
            raise SgfluxError(f"{key} has no {name} beside it")
        weight = weights[name]
        if not weight.is_floating_point():
            raise SgfluxError(
                f"{name} is {weight.dtype} with a factor beside it; of quantised weights only "
                "float8_e4m3fn and float8_e5m2 are read: give a file in bf16, fp16 or scaled fp8"
            )
        if value.numel() not in (1, weight.shape[0]) or not bool(value.float().isfinite().all()):
            raise SgfluxError(
                f"{key} is {tuple(value.shape)}, expected one finite factor, or one for each of "
                f"{weight.shape[0]} rows"
            )
        if bool((value == 1).all()):
            continue  # a layer that was left in its own precision
        factor = value.float().reshape(-1, *[1] * (weight.ndim - 1))
        weights[name] = (weight.float() * factor).to(torch.bfloat16)
    return weights


def _check_format(key: str, value: Tensor) -> None:
    try:
        settings = json.loads(bytes(value.to(torch.uint8).tolist()))
        kind = settings["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise SgfluxError(f"{key} does not say how the weight is quantised: {error}") from error
    if kind not in _FORMATS:
        raise SgfluxError(
            f"{key}: weights in {kind} are not read; give a file in bf16, fp16 or scaled fp8"
        )
