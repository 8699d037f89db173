"""LoRA weights in the layouts of other programs, and back; nothing is lost on the way.

    diffusers   transformer.transformer_blocks.7.attn.to_q.lora_A.weight
    kohya       lora_unet_double_blocks_7_img_attn_qkv.lora_down.weight
    comfyui     diffusion_model.double_blocks.7.img_attn.qkv.lora_A.weight

The last two name the layers of FLUX's original release, in which query, key and value are one
matrix: three LoRAs of rank r become one of rank 3r whose upper factor is block-diagonal, and alpha
is tripled, so that alpha / rank stays.

Shapes: A is (r, in), B is (out, r).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.writing import replace_file

LoraFormat = Literal["diffusers", "kohya", "comfyui"]
LORA_FORMATS: tuple[LoraFormat, ...] = get_args(LoraFormat)

METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers looks for rank, alpha and targets in a file's header."""

_FUSED: dict[str, tuple[str, ...]] = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
}
"""Layer of an original double block -> diffusers' layers of it."""
_PLACE = {part: (layer, i) for layer, parts in _FUSED.items() for i, part in enumerate(parts)}
_ENDINGS = {
    "kohya": ("lora_down.weight", "lora_up.weight"),
    "comfyui": ("lora_A.weight", "lora_B.weight"),
}
_NAMES = {
    "kohya": re.compile(r"lora_unet_double_blocks_(\d+)_(img|txt)_attn_(qkv|proj)"),
    "comfyui": re.compile(r"diffusion_model\.double_blocks\.(\d+)\.(img|txt)_attn\.(qkv|proj)"),
}


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """LoRA of one rank and alpha on attention projections of FLUX's double blocks.

    Attributes:
        weights: ``transformer_blocks.7.attn.to_q.lora_A.weight`` -> (r, in), ``…lora_B.weight`` ->
            (out, r).
        alpha: the layers add alpha / rank * B A x.
    """

    weights: Mapping[str, Tensor]
    alpha: float

    def __post_init__(self) -> None:
        """Check that every layer is whole and of the same rank."""
        if not self.weights:
            raise SgfluxError("there is no LoRA weight")
        for name, value in self.weights.items():
            layer, _, ending = name.rpartition(".lora_")
            if ending not in ("A.weight", "B.weight") or layer.partition(".attn.")[1] == "":
                raise SgfluxError(f"{name} is no LoRA weight of an attention projection")
            other = f"{layer}.lora_{'B' if ending[0] == 'A' else 'A'}.weight"
            if other not in self.weights:
                raise SgfluxError(f"{name} has no {other} beside it")
            if value.ndim != 2 or value.shape["AB".index(ending[0])] != self.rank:
                raise SgfluxError(
                    f"{name} is {tuple(value.shape)}, expected rank {self.rank} as elsewhere"
                )

    @property
    def rank(self) -> int:
        """r."""
        name = next(name for name in self.weights if name.endswith("lora_A.weight"))
        return self.weights[name].shape[0]

    @property
    def modules(self) -> tuple[str, ...]:
        """The layers that have a LoRA, in the order of the weights."""
        return tuple(dict.fromkeys(name.rpartition(".lora_")[0] for name in self.weights))

    def scaled(self, factor: float) -> LoraWeights:
        """The same with ``factor`` times the effect."""
        return LoraWeights(weights=self.weights, alpha=self.alpha * factor)


def write_lora(path: str | os.PathLike[str], lora: LoraWeights, *, layout: LoraFormat) -> None:
    """Write one ``.safetensors`` file, all of it or nothing.

    Raises:
        SgfluxError: if the file's name has another ending, or the layout cannot hold these layers.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise SgfluxError(f"{path}: a LoRA file must end in .safetensors")
    if layout == "diffusers":
        tensors = {f"transformer.{name}": value for name, value in lora.weights.items()}
        header = diffusers_header(lora)
    else:
        tensors, header = _fused(lora, layout), {"format": "pt"}
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    replace_file(path, save(content, metadata=header))


def diffusers_header(lora: LoraWeights) -> dict[str, str]:
    """What diffusers reads of a file beyond its weights; without it, it takes alpha for rank."""
    settings = {
        "transformer.r": lora.rank,
        "transformer.lora_alpha": lora.alpha,
        "transformer.target_modules": list(lora.modules),
    }
    return {"format": "pt", METADATA_KEY: json.dumps(settings)}


def read_lora(path: str | os.PathLike[str]) -> LoraWeights:
    """Read a file of any of the three layouts.

    Raises:
        SgfluxError: if it is damaged, of none of them, or a key is left over; the message names it.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise SgfluxError(f"{path} cannot be read: {error}") from error
    try:
        if all(name.startswith("transformer.") for name in tensors):
            return _from_diffusers(tensors, header)
        for layout, pattern in _NAMES.items():
            if any(pattern.match(name) for name in tensors):
                return _from_fused(tensors, layout)
        first = next(iter(tensors), "nothing")
        raise SgfluxError(
            f"the layout of {first!r} is none of {', '.join(LORA_FORMATS)} for FLUX's double blocks"
        )
    except SgfluxError as error:
        raise SgfluxError(f"{path}: {error}") from error


def _from_diffusers(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> LoraWeights:
    weights = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    lora = LoraWeights(weights=weights, alpha=1.0)
    settings = json.loads(header.get(METADATA_KEY, "{}"))
    # diffusers writes no alpha where it is the rank.
    return LoraWeights(weights=weights, alpha=settings.get("transformer.lora_alpha", lora.rank))


def _fused(lora: LoraWeights, layout: str) -> dict[str, Tensor]:
    down, up = _ENDINGS[layout]
    tensors: dict[str, Tensor] = {}
    layers: dict[tuple[int, str], None] = {}
    for module in lora.modules:
        match = re.fullmatch(r"transformer_blocks\.(\d+)\.(attn\..+)", module)
        if match is None or match[2] not in _PLACE:
            raise SgfluxError(f"the {layout} layout has no place for {module}")
        layers[int(match[1]), _PLACE[match[2]][0]] = None
    for block, layer in layers:
        parts = [f"transformer_blocks.{block}.{part}" for part in _FUSED[layer]]
        lacking = [part for part in parts if part not in lora.modules]
        if lacking:
            raise SgfluxError(f"the {layout} layout needs LoRA on {lacking[0]} as well")
        name = f"double_blocks.{block}.{layer}"
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


def _from_fused(tensors: Mapping[str, Tensor], layout: str) -> LoraWeights:
    down, up = _ENDINGS[layout]
    left = dict(tensors)
    weights: dict[str, Tensor] = {}
    alphas: set[float] = set()
    for name in sorted({key for key in tensors if key.endswith(f".{down}")}):
        match = _NAMES[layout].fullmatch(name.removesuffix(f".{down}"))
        if match is None:
            raise SgfluxError(f"{name} is no layer of a double block's attention")
        parts = _FUSED[f"{match[2]}_attn.{match[3]}"]
        stem = match[0]
        a = left.pop(name)
        b = left.pop(f"{stem}.{up}", None)
        if b is None:
            raise SgfluxError(f"{name} has no {stem}.{up} beside it")
        alpha = float(left.pop(f"{stem}.alpha", torch.tensor(float(a.shape[0]))))
        rank, rows = a.shape[0] // len(parts), b.shape[0] // len(parts)
        for index, part in enumerate(parts):
            columns = slice(index * rank, (index + 1) * rank)
            own = b[index * rows : (index + 1) * rows]
            if bool(own.count_nonzero() != own[:, columns].count_nonzero()):
                raise SgfluxError(
                    f"{stem} mixes query, key and value in one LoRA, which cannot be taken apart"
                )
            module = f"transformer_blocks.{match[1]}.{part}"
            weights[f"{module}.lora_A.weight"] = a[columns].clone()
            weights[f"{module}.lora_B.weight"] = own[:, columns].clone()
        alphas.add(alpha / len(parts))
    if left:
        raise SgfluxError(f"{next(iter(left))} belongs to no double block's attention")
    if len(alphas) != 1:
        raise SgfluxError(f"its layers have different alphas: {sorted(alphas)}")
    return LoraWeights(weights=weights, alpha=alphas.pop())
