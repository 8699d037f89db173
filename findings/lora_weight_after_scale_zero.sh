#!/usr/bin/env bash
# diffusers 0.42.1: after a picture at LoRA scale 0, the weights of set_adapters are forgotten.
#
# set_adapters gives a LoRA a weight that stays; joint_attention_kwargs={"scale": ...} multiplies
# it for one call. After a call with 0.5 the weight is what it was before. After a call with 0 it is
# 1 for each active LoRA. So whoever draws a picture without the LoRA for comparison draws every
# later one with the LoRA at full strength. Calling set_adapters before each picture avoids that.
# graph_scale of sgflux is an argument of one picture and changes no layer.
#
# Output seen with diffusers 0.42.1, peft 0.21.2, transformers 5.24.0, torch 2.14.1, Python 3.11:
#   set_adapters: weights [0.3, 0.6]
#   after a call with scale 0.5: weights [0.3, 0.6], the same output as before: True
#   after a call with scale 0.0: weights [1.0, 1.0], the same output as before: False
#   the output is that of set_adapters with weights of 1: True
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds, with a small random transformer of FLUX.1.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
    "diffusers==0.42.1" "peft==0.21.2" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import sys

import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig

torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    in_channels=4,
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=16,
    num_attention_heads=2,
    joint_attention_dim=8,
    pooled_projection_dim=8,
    axes_dims_rope=(4, 4, 8),
).eval()
for name in ("style", "subject"):
    settings = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q"], init_lora_weights=False)
    transformer.add_adapter(settings, adapter_name=name)
inputs = {
    "hidden_states": torch.randn(1, 16, 4),
    "encoder_hidden_states": torch.randn(1, 5, 8),
    "pooled_projections": torch.randn(1, 8),
    "timestep": torch.tensor([0.5]),
    "img_ids": torch.zeros(16, 3),
    "txt_ids": torch.zeros(5, 3),
}


@torch.no_grad()
def draw(**attention):
    return transformer(**inputs, joint_attention_kwargs=attention or None).sample


def weights():
    return list(transformer.transformer_blocks[0].attn.to_q.scaling.values())


transformer.set_adapters(["style", "subject"], [0.3, 0.6])
before = draw()
print("set_adapters: weights", weights())
found = []
for scale in (0.5, 0.0):
    draw(scale=scale)
    after = draw()
    same = torch.equal(before, after)
    print(f"after a call with scale {scale}: weights {weights()}, ", end="")
    print(f"the same output as before: {same}")
    found.append((weights(), same))
transformer.set_adapters(["style", "subject"], [1.0, 1.0])
full = torch.equal(draw(), after)
print("the output is that of set_adapters with weights of 1:", full)
sys.exit(0 if found == [([0.3, 0.6], True), ([1.0, 1.0], False)] and full else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
