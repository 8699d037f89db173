"""LoRA files in the layouts of other programs: written for them, and read from any of them.

    diffusers   transformer.transformer_blocks.7.attn.to_q.lora_A.weight
    kohya       lora_unet_double_blocks_7_img_attn_qkv.lora_down.weight
    comfyui     diffusion_model.double_blocks.7.img_attn.qkv.lora_A.weight

The last two name the layers of FLUX's original release, in which query, key and value are one
matrix: three LoRAs of rank r become one of rank 3r whose upper factor is block-diagonal.

Who reads what, as found in the programs' own code: the kohya layout is read with its alphas by
ComfyUI, sd-scripts and diffusers, the comfyui layout by ComfyUI alone, and the diffusers layout by
diffusers, ComfyUI, ai-toolkit and sd-scripts' converter, of which only diffusers looks for an alpha
in the header. So alpha is the rank in the last two layouts, and B holds what it said.

Shapes: A is (r, in), B is (out, r).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sgflux.bases.flux1.lora_keys import check_header, layer_of, split_key, text_encoder_of
from sgflux.bases.flux1.original_layout import (
    DOUBLE,
    DOUBLE_FUSED,
    SINGLE,
    SINGLE_FUSED,
    original_targets,
)
from sgflux.bases.lora_weights import LoraWeights
from sgflux.errors import SgfluxError, located
from sgflux.files.finite import check_finite
from sgflux.files.tensors import read_tensors
from sgflux.files.weights_header import read_header
from sgflux.files.writing import replace_file
from sgflux.settings.adapter import LoraFormat
from sgflux.settings.model import FLUX_SCHNELL
from sgflux.terminal.printable import counted

__all__ = ["LORA_FORMATS", "METADATA_KEY", "LoraWeights", "read_lora", "write_lora"]

LORA_FORMATS: tuple[LoraFormat, ...] = get_args(LoraFormat)

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers looks for rank, alpha and targets in a file's header."""

_FUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "double_blocks": DOUBLE_FUSED | {layer: (part,) for layer, part in DOUBLE.items()},
    "single_blocks": SINGLE_FUSED | {layer: (part,) for layer, part in SINGLE.items()},
}
"""Layer of an original block -> diffusers' layers of it, by kind of block."""
_PLACES = {
    kind: {part: layer for layer, parts in layers.items() for part in parts}
    for kind, layers in _FUSED.items()
}
_ENDINGS = {
    "kohya": ("lora_down.weight", "lora_up.weight"),
    "comfyui": ("lora_A.weight", "lora_B.weight"),
}

IMAGE_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_PROJECTIONS = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

_FEED_FORWARD = {"ff.net.0.proj": (1, 4), "ff.net.2": (4, 1)}
_SINGLE = {f"attn.{part}": (1, 1) for part in IMAGE_PROJECTIONS[:3]} | {
    "proj_mlp": (1, 4),
    "proj_out": (5, 1),
}
"""Layer of a block -> its inputs and outputs, in inner widths."""

_SIZES = {"num_layers": 19, "num_single_layers": 38, "inner_dim": 3072}
"""What a description of FLUX.1-schnell or FLUX.1-dev says of the sizes."""


# --- an adapter's layers ------------------------------------------------------------------------


def lora_layers(
    base: Mapping[str, Any], blocks: Iterable[int], targets: str
) -> dict[str, tuple[int, int]]:
    """See :class:`~sgflux.bases.family.LoraLayouts`."""
    attention = IMAGE_PROJECTIONS if targets == "image" else IMAGE_PROJECTIONS + TEXT_PROJECTIONS
    double = {f"attn.{part}": (1, 1) for part in attention}
    if "+ff" in targets:
        double |= _FEED_FORWARD
    chosen = [(f"transformer_blocks.{index}", double) for index in blocks]
    if "+single" in targets:
        count = base["num_single_layers"]
        chosen += [(f"single_transformer_blocks.{index}", _SINGLE) for index in range(count)]
    width = base["inner_dim"]
    return {
        f"{block}.{part}": (inputs * width, outputs * width)
        for block, parts in chosen
        for part, (inputs, outputs) in parts.items()
    }


def tokens_of(layer: str, *, image: int, text: int) -> int:
    """See :class:`~sgflux.bases.family.LoraLayouts`; single blocks see both streams as one."""
    if layer.startswith("single_"):
        return image + text
    return text if layer.rpartition(".attn.")[2] in TEXT_PROJECTIONS else image


def lora_header(base: Mapping[str, Any]) -> dict[str, str]:
    """See :class:`~sgflux.bases.family.LoraLayouts`; as sd-scripts and ModelSpec have it."""
    kind = "flux-1"
    if _has_usual_sizes(base):
        kind = "flux-1-dev" if base["guidance_embeds"] else "flux-1-schnell"
    return {
        "ss_base_model_version": "flux1",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{kind}/lora",
        "modelspec.implementation": "https://github.com/black-forest-labs/flux",
    }


def hub_id(base: Mapping[str, Any]) -> str | None:
    """See :class:`~sgflux.bases.family.LoraLayouts`: FLUX.1-schnell where the sizes are its own."""
    return FLUX_SCHNELL if not base.get("guidance_embeds") and _has_usual_sizes(base) else None


def _has_usual_sizes(base: Mapping[str, Any]) -> bool:
    return all(base.get(name) == size for name, size in _SIZES.items())


# --- writing ------------------------------------------------------------------------------------


def write_lora(
    path: str | os.PathLike[str],
    lora: LoraWeights,
    *,
    layout: LoraFormat,
    header: Mapping[str, str] | None = None,
) -> None:
    """Write one ``.safetensors`` file, all of it or nothing.

    Args:
        path: the file.
        lora: Weights to write.
        layout: Layout by which the weights are named.
        header: further entries of the file's header.

    Raises:
        SgfluxError: if the file's name has another ending, the layout cannot hold these layers, or
            a weight is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise SgfluxError(f"{path}: a LoRA file must end in .safetensors")
    if layout == "diffusers":
        lora = lora.folded()
        tensors = {f"transformer.{name}": value for name, value in lora.weights.items()}
    else:
        lora = lora.folded() if layout == "comfyui" else lora
        tensors = _fused(lora, layout)
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    beyond = "float32 holds no greater ones; give a smaller scale or alpha"
    check_finite(content, where=path, way_out=beyond)
    entries = {"format": "pt", **_header(lora, layout), **(header or {})}
    replace_file(path, save(content, metadata=entries))


def _header(lora: LoraWeights, layout: LoraFormat) -> dict[str, str]:
    """What programs read of a file beyond its weights."""
    # As sd-scripts writes them; programs that manage LoRA files show these.
    entries = {"ss_network_dim": str(lora.rank), "ss_network_alpha": f"{lora.alpha:g}"}
    if layout == "kohya":
        entries["ss_network_module"] = "networks.lora_flux"
    if layout == "diffusers":
        settings = {
            "transformer.r": lora.rank,
            "transformer.lora_alpha": lora.alpha,
            "transformer.target_modules": list(lora.modules),
        }
        entries[METADATA_KEY] = json.dumps(settings)
    return entries


def _fused(lora: LoraWeights, layout: str) -> dict[str, Tensor]:
    down, up = _ENDINGS[layout]
    tensors: dict[str, Tensor] = {}
    layers: dict[str, list[str]] = {}
    for module in lora.modules:
        match = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", module)
        kind = "single_blocks" if match and match[1] else "double_blocks"
        if match is None or match[3] not in _PLACES[kind]:
            raise SgfluxError(f"the {layout} layout has no place for {module}")
        layer = _PLACES[kind][match[3]]
        block = module.removesuffix(match[3])
        layers[f"{kind}.{match[2]}.{layer}"] = [f"{block}{part}" for part in _FUSED[kind][layer]]
    for name, parts in layers.items():
        lacking = [part for part in parts if part not in lora.modules]
        if lacking:
            raise SgfluxError(f"the {layout} layout needs LoRA on {lacking[0]} as well")
        name = (
            f"diffusion_model.{name}"
            if layout == "comfyui"
            else f"lora_unet_{name.replace('.', '_')}"
        )
        tensors[f"{name}.{down}"] = torch.cat([lora.weights[f"{p}.lora_A.weight"] for p in parts])
        tensors[f"{name}.{up}"] = torch.block_diag(
            *(lora.weights[f"{p}.lora_B.weight"] for p in parts)
        )
        tensors[f"{name}.alpha"] = torch.tensor(lora.alpha * len(parts), dtype=torch.float32)
    return tensors


# --- reading ------------------------------------------------------------------------------------


def read_lora(path: str | os.PathLike[str]) -> LoraWeights:
    """Read a LoRA of FLUX.1's transformer in any layout of :mod:`sgflux.bases.flux1.lora_keys`.

    A layer without an alpha, in its file's keys or header, has its rank for alpha. Layers of a text
    encoder are passed over if they do nothing, and are an error otherwise.

    Returns:
        The weights in float32 on the CPU, each layer with its own alpha.

    Raises:
        SgfluxError: if the file is damaged, or a key is no part of a LoRA of FLUX.1's transformer;
            the message names the key.
    """
    read_header(path)  # says better than the library what is wrong with a file
    tensors = read_tensors(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    with located(path):
        check_header(header)
        return _lora_of(tensors, header)


def _lora_of(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> LoraWeights:
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        layer, part = split_key(key)
        if not bool(value.float().isfinite().all()):
            raise SgfluxError(f"{key}: holds numbers that are not finite (NaN or infinite)")
        layers.setdefault(layer, {})[part] = value.float()
    of_header = _HeaderAlphas(header)
    weights: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for layer, parts in layers.items():
        if (encoder := text_encoder_of(layer)) is not None:
            up = parts.get("B")
            if up is not None and not bool(up.any()):
                continue  # it adds nothing
            count = sum(text_encoder_of(name) is not None for name in layers)
            raise SgfluxError(
                f"{layer}: the file also changes the text encoders "
                f"({counted(count, 'layer')}; this one is {encoder}'s), which sgflux "
                "does not; give a LoRA of the transformer alone"
            )
        name, is_original = layer_of(layer)
        for module, own in _modules(layer, name, parts, is_original=is_original):
            if f"{module}.lora_A.weight" in weights:
                raise SgfluxError(f"{layer}: {module} has a LoRA in this file already")
            down, up, alpha = own
            if alpha is None:
                alpha = of_header(module, rank=down.shape[0])
            weights[f"{module}.lora_A.weight"], weights[f"{module}.lora_B.weight"] = down, up
            alphas[module] = alpha
    if not weights:
        raise SgfluxError("it has no LoRA weight of FLUX.1's transformer")
    return LoraWeights(weights=weights, alphas=alphas)


_Layer = tuple[Tensor, Tensor, float | None]


def _modules(
    layer: str, name: str, parts: Mapping[str, Tensor], *, is_original: bool
) -> list[tuple[str, _Layer]]:
    """diffusers' layers of one in a file, each with A, B, and alpha where the file has it."""
    for part, other in (("A", "B"), ("B", "A"), ("alpha", "A")):
        if part in parts and other not in parts:
            raise SgfluxError(f"{layer}: has no {_NAMES[other]} beside its {_NAMES[part]}")
    down, up = parts["A"].flatten(1), parts["B"].flatten(1)
    if down.shape[0] != up.shape[1]:
        raise SgfluxError(
            f"{layer}: its matrices are {tuple(parts['A'].shape)} and {tuple(parts['B'].shape)}, "
            "which do not fit together"
        )
    alpha = None
    if "alpha" in parts:
        if parts["alpha"].numel() != 1:
            raise SgfluxError(f"{layer}: its alpha is {tuple(parts['alpha'].shape)}, not a number")
        alpha = float(parts["alpha"])
    if not is_original:
        return [(name, (down, up, alpha))]
    targets = _targets(name, up)
    count = len(targets)
    if count == 1:
        return [(targets[0][0], (down, targets[0][1], alpha))]
    rank = down.shape[0] // count
    own = [slice(index * rank, (index + 1) * rank) for index in range(count)]
    if rank * count == down.shape[0] and all(
        rows.count_nonzero() == rows[:, columns].count_nonzero()
        for (_, rows), columns in zip(targets, own, strict=True)
    ):
        # Several LoRAs beside each other: each has its own rows of A and columns of B.
        share = None if alpha is None else alpha / count
        return [
            (module, (down[columns].clone(), rows[:, columns].clone(), share))
            for (module, rows), columns in zip(targets, own, strict=True)
        ]
    # One LoRA over all of them: they share A.
    return [(module, (down, rows.clone(), alpha)) for module, rows in targets]


_NAMES = {"A": "lora_A (lora_down)", "B": "lora_B (lora_up)", "alpha": "alpha"}


def _targets(name: str, up: Tensor) -> list[tuple[str, Tensor]]:
    if name.endswith(".linear1_qkv"):  # XLabs: a single block's query, key and value alone
        block = f"single_transformer_blocks.{name.split('.')[1]}"
        parts = ("attn.to_q", "attn.to_k", "attn.to_v")
        return [(f"{block}.{p}", rows) for p, rows in zip(parts, up.chunk(3), strict=True)]
    return original_targets(name, up)


class _HeaderAlphas:
    """Alphas in the header that diffusers and peft write."""

    def __init__(self, header: Mapping[str, str]) -> None:
        """Read the header's settings.

        Raises:
            SgfluxError: if they cannot be read, or are of another method than LoRA.
        """
        try:
            settings = json.loads(header.get(METADATA_KEY, "{}"))
        except ValueError as error:
            raise SgfluxError(f"its header's {METADATA_KEY} is no JSON: {error}") from error
        if not isinstance(settings, dict):
            raise SgfluxError(f"its header's {METADATA_KEY} is no table of settings")
        self._settings = {
            name.removeprefix("transformer."): value for name, value in settings.items()
        }
        if self._settings.get("use_dora"):
            raise SgfluxError("its header says use_dora: DoRA is no LoRA")

    def __call__(self, module: str, *, rank: int) -> float:
        """Alpha of a layer; its rank if nothing else is said."""
        found: Any = self._settings.get("lora_alpha", rank)
        pattern = self._settings.get("alpha_pattern") or {}
        if isinstance(pattern, Mapping):
            found = pattern.get(get_pattern_key(list(pattern), module), found)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise SgfluxError(f"its header's alpha of {module} is {found!r}, not a number")
        # Rank-stabilised LoRA divides by the root of the rank.
        return found * math.sqrt(rank) if self._settings.get("use_rslora") else float(found)
