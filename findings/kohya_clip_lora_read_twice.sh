#!/usr/bin/env bash
# diffusers 0.42.1: a kohya LoRA of FLUX.1, held in memory and read twice, differs in CLIP.
#
# A kohya file states the alpha of each layer, and FluxPipeline.lora_state_dict, through which
# FluxPipeline.load_lora_weights reads, multiplies alpha / rank into the matrices. Instead of a file
# it takes a dictionary of tensors. It makes new tensors for the transformer, but multiplies CLIP's
# in place. So whoever reads a file once and hands its content to two pipelines has CLIP's layers at
# (alpha / rank) squared in the second pipeline; the transformer's are right in both. Reading the
# file anew for each pipeline avoids that.
#
# Output seen with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 and Python 3.11, for weights
# of 1, rank 4 and alpha 2; each figure is the factor of up @ down:
#   reading 1: transformer 0.5, CLIP 0.5
#   reading 2: transformer 0.5, CLIP 0.25
#   the caller's tensors changed: lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds and loads no model.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import sys

import torch
from diffusers import FluxPipeline

RANK, ALPHA = 4, 2.0
WIDTHS = {
    "lora_unet_double_blocks_0_img_attn_proj": 3072,
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": 768,
}
held = {}
for layer, width in WIDTHS.items():
    held[f"{layer}.lora_down.weight"] = torch.ones(RANK, width)
    held[f"{layer}.lora_up.weight"] = torch.ones(width, RANK)
    held[f"{layer}.alpha"] = torch.tensor(ALPHA)
original = {name: tensor.clone() for name, tensor in held.items()}


def strengths():
    read = FluxPipeline.lora_state_dict(held)
    found = {}
    for kind in ("transformer", "text_encoder"):
        down, up = (read[name] for name in sorted(read) if name.startswith(f"{kind}."))
        found[kind] = (up[:1] @ down[:, :1]).item() / RANK
    return found


found = [strengths(), strengths()]
for number, strength in enumerate(found, start=1):
    print(f"reading {number}: transformer {strength['transformer']}, ", end="")
    print(f"CLIP {strength['text_encoder']}")
assert held.keys() == original.keys()
changed = [name for name in held if not torch.equal(held[name], original[name])]
print("the caller's tensors changed:", *(name.removesuffix(".weight") for name in changed))
expected = [
    {"transformer": 0.5, "text_encoder": 0.5},
    {"transformer": 0.5, "text_encoder": 0.25},
]
sys.exit(0 if found == expected and len(changed) == 1 and "lora_te1" in changed[0] else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
