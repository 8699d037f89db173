"""The parts of FLUX.1 that weights belong to, and files that hold one of them alone.

The layouts of such files are told in :mod:`~sgflux.bases.flux1.original_layout` and
:mod:`~sgflux.bases.flux1.single_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedModel,
    T5Config,
    T5EncoderModel,
)

from sgflux.bases.flux1.original_layout import (
    convert_original,
    original_config,
    transformer_alone,
)
from sgflux.bases.flux1.single_files import (
    autoencoder_config,
    clip_alone,
    clip_config,
    convert_autoencoder,
    convert_t5,
    t5_config,
)
from sgflux.bases.weight_files import holds_weights, read_weights
from sgflux.errors import located
from sgflux.files.tensors import check_shapes, shapes_of
from sgflux.files.weights_header import read_header

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Part:
    """How a part is built, and how it is read from a file of its own.

    Attributes:
        build: Function that makes the part of its library's settings, with any weights.
        settings: Function that reads these settings off a file's weights.
        convert: Function that gives a file's weights the library's names.
        alone: Function that leaves out what a file has beside the part.
    """

    build: Callable[[dict[str, Any]], nn.Module]
    settings: Callable[[Weights], dict[str, Any]]
    convert: Callable[[Weights], dict[str, Tensor]] = dict
    alone: Callable[[Weights], Weights] = dict


PARTS = {
    "transformer": Part(
        FluxTransformer2DModel.from_config,
        original_config,
        convert=convert_original,
        alone=transformer_alone,
    ),
    "vae": Part(AutoencoderKL.from_config, autoencoder_config, convert=convert_autoencoder),
    "text_encoder": Part(
        lambda settings: CLIPTextModel(CLIPTextConfig.from_dict(settings)),
        clip_config,
        alone=clip_alone,
    ),
    "text_encoder_2": Part(
        lambda settings: T5EncoderModel(T5Config.from_dict(settings)),
        t5_config,
        convert=convert_t5,
    ),
}
"""Part, as diffusers names its folder -> how it is built and read."""


def settings_in_file(name: str, path: Path) -> dict[str, Any]:
    """The settings of a part in a file of its own, as its library has them, from the header alone.

    Raises:
        SgfluxError: if the file cannot be read, or lacks a weight that tells a size.
    """
    part, weights = PARTS[name], _described(path)
    with located(path):
        return part.settings(part.alone(weights))


def part_in_file(
    name: str, path: Path, *, header_alone: bool = False
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and weights of a part in a file of its own, as its library has them.

    Args:
        name: Name of the part.
        path: Path of the file.
        header_alone: Leave the weights' values in the file: they are on the device ``meta``.

    Returns:
        Settings, and weights in the file's precision on the CPU.

    Raises:
        SgfluxError: if the file cannot be read, lacks a weight that tells a size, or has an unknown
            key.
    """
    part, weights = PARTS[name], _described(path) if header_alone else read_weights(path)
    with located(path):
        own = part.alone(weights)
        return part.settings(own), part.convert(own)


def load_part(name: str, path: Path, *, dtype: torch.dtype, **settings: Any) -> Any:
    """The part in a file of its own, in ``dtype`` on the CPU.

    Args:
        name: Name of the part.
        path: Path of the file.
        dtype: Precision of the weights.
        settings: Settings of its library that no weight tells.

    Raises:
        SgfluxError: if the file cannot be read, or holds something else; the message names the key.
    """
    path = path.expanduser()
    read, state = part_in_file(name, path)
    # CLIP is small, and has buffers that no file has.
    where = torch.device("cpu" if name == "text_encoder" else "meta")
    with torch.random.fork_rng(devices=[]), where:
        module = PARTS[name].build(read | settings)
    check_shapes(shapes_of(state), shapes_of(module.state_dict()), where=path)
    weights = {key: value.to(dtype) for key, value in state.items()}
    module.load_state_dict(weights, strict=True, assign=True)
    if isinstance(module, PreTrainedModel):
        module.tie_weights()
    return module


def _described(path: Path) -> dict[str, Tensor]:
    """The weights of a file without their values, on the device ``meta``, from its header alone."""
    return {
        name: torch.empty(stored.shape, device="meta")
        for name, stored in read_header(path).items()
        if holds_weights(name)
    }
