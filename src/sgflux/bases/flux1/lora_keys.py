"""The keys of LoRA files: which layer of FLUX.1 each belongs to, and which part of its LoRA it is.

    diffusers, ai-toolkit  transformer.transformer_blocks.7.attn.to_q.lora_A.weight
    peft                   base_model.model.transformer_blocks.7.attn.to_q.lora_A.weight
    ComfyUI                diffusion_model.double_blocks.7.img_attn.qkv.lora_A.weight
    kohya                  lora_unet_double_blocks_7_img_attn_qkv.lora_down.weight
    OneTrainer             lora_transformer_transformer_blocks_7_attn_to_q.lora_down.weight
    LyCORIS                lycoris_transformer_blocks_7_attn_to_q.lora_down.weight
    XLabs                  double_blocks.7.processor.qkv_lora1.down.weight

Beside its two matrices a layer may have ``.alpha``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from sgflux.bases.flux1.original_layout import module_names
from sgflux.errors import SgfluxError

Part = Literal["A", "B", "alpha"]

# A layer's name, and what peft, sd-scripts and earlier versions of diffusers call its parts.
_ENDINGS: dict[Part, re.Pattern[str]] = {
    "A": re.compile(
        r"(.+?)\.(lora_A|lora_A\.default|lora_down|lora\.down|lora_linear_layer\.down|down)\.weight"
    ),
    "B": re.compile(
        r"(.+?)\.(lora_B|lora_B\.default|lora_up|lora\.up|lora_linear_layer\.up|up)\.weight"
    ),
    "alpha": re.compile(r"(.+)\.alpha"),
}

_OTHER_METHODS = {
    r"dora_scale|lora_magnitude_vector": "DoRA",
    r"\.lokr_": "LoKr",
    r"\.hada_": "LoHa",
    r"\.b?oft_": "OFT",
    r"\.lora_mid\.": "LoRA of a convolution",
    r"\.(diff|diff_b|set_weight|reshape_weight)$": "a change of whole weights",
    r"\.bias$": "LoRA with a bias",
}
"""Pattern of a key -> what the file holds in place of a plain LoRA, or beside it."""

_T5 = ("lora_te2_", "lora_te3_", "text_encoder_2.", "text_encoders.t5xxl.", "t5xxl.")
_CLIP = (
    "lora_te_",
    "lora_te1_",
    "text_encoder.",
    "text_encoders.clip_l.",
    "clip_l.",
    "text_model.",
)

_OTHER_FAMILIES = {
    r"distilled_guidance_layer": "Chroma",
    r"double_stream_modulation|to_qkv_mlp_proj": "FLUX.2",
    r"joint_blocks": "Stable Diffusion 3",
    r"(down|up|input|output)_blocks|mid_block": "Stable Diffusion",
    r"img_mod\.1": "Qwen-Image",
    r"cross_attn": "Wan",
}
"""Pattern of a key -> the family of models that has such a layer, and FLUX.1 has not."""

_FOREIGN_HEADER = re.compile(
    r"chroma|stable-diffusion|sdxl|sd[_-]?v?[123]|qwen|wan|flux[._-]?[2-9]|z[-_]image|lumina|hunyuan",
    re.IGNORECASE,
)
_HEADER_KEYS = ("modelspec.architecture", "ss_base_model_version")

_ORIGINAL_NAMES, _DIFFUSERS_NAMES = module_names()
_BLOCKS = re.compile(r"(double_blocks|single_blocks)[._](\d+)[._](.+)")
_DIFFUSERS_BLOCKS = re.compile(r"(single_transformer_blocks|transformer_blocks)[._](\d+)[._](.+)")
_XLABS = {
    "processor.qkv_lora1": "img_attn.qkv",
    "processor.qkv_lora2": "txt_attn.qkv",
    "processor.proj_lora1": "img_attn.proj",
    "processor.proj_lora2": "txt_attn.proj",
    "processor.qkv_lora": "linear1_qkv",
    "processor.proj_lora": "linear2",
}
_DOTTED_PREFIXES = ("transformer.", "diffusion_model.", "base_model.model.")
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")


def split_key(key: str) -> tuple[str, Part]:
    """The layer of a key as the file calls it, and the part of the LoRA.

    Raises:
        SgfluxError: if it belongs to another method than LoRA, or to none.
    """
    for other, method in _OTHER_METHODS.items():
        if re.search(other, key):
            raise SgfluxError(
                f"{key}: {method} is no LoRA; only plain LoRA of FLUX.1's transformer is read"
            )
    for part, pattern in _ENDINGS.items():
        if match := pattern.fullmatch(key):
            return match[1], part
    raise SgfluxError(f"{key} is no key of a LoRA that is known here")


def text_encoder_of(layer: str) -> str | None:
    """The text encoder that a layer belongs to, ``T5`` or ``CLIP``; None: to neither."""
    if layer.startswith(_T5):
        return "T5"
    return "CLIP" if layer.startswith(_CLIP) else None


def layer_of(layer: str) -> tuple[str, bool]:
    """A layer's name in FLUX.1's transformer.

    Args:
        layer: Name of the layer in the file.

    Returns:
        The name, and whether it is one of the original release (``double_blocks.7.img_attn.qkv``)
        or one of diffusers' (``transformer_blocks.7.attn.to_q``).

    Raises:
        SgfluxError: if FLUX.1's transformer has no such layer.
    """
    inner = layer
    for prefix in (*_DOTTED_PREFIXES, *_FLAT_PREFIXES):
        if layer.startswith(prefix):
            inner = layer.removeprefix(prefix)
            break
    flat = inner.replace(".", "_")
    if match := _DIFFUSERS_BLOCKS.fullmatch(inner):
        name = _DIFFUSERS_NAMES.get(match[3].replace(".", "_"))
        if name is not None:
            return f"{match[1]}.{match[2]}.{name}", False
    elif match := _BLOCKS.fullmatch(inner):
        name = _XLABS.get(match[3], _ORIGINAL_NAMES.get(match[3].replace(".", "_")))
        if name is not None:
            return f"{match[1]}.{match[2]}.{name}", True
    elif flat in _ORIGINAL_NAMES:
        return _ORIGINAL_NAMES[flat], True
    elif flat in _DIFFUSERS_NAMES:
        return _DIFFUSERS_NAMES[flat], False
    family = next((name for part, name in _OTHER_FAMILIES.items() if re.search(part, layer)), None)
    raise SgfluxError(
        f"{layer} is no layer of FLUX.1's transformer"
        + (f"; it looks like a LoRA of {family}" if family is not None else "")
    )


def check_header(header: Mapping[str, str]) -> None:
    """Check that a file's header does not name another family of models than FLUX.1.

    Raises:
        SgfluxError: naming the entry and what it says.
    """
    for key in _HEADER_KEYS:
        said = header.get(key, "")
        if _FOREIGN_HEADER.search(said):
            raise SgfluxError(f"its header says {key} = {said!r}: it is no LoRA of FLUX.1")
