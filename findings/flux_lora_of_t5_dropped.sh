#!/usr/bin/env bash
# diffusers 0.42.1: what a kohya LoRA of FLUX.1 trained in T5 is left out without a word.
#
# sd-scripts, which trains FLUX.1's transformer, CLIP and T5, calls their layers lora_unet_...,
# lora_te1_... and lora_te3_... (networks/lora_flux.py). FluxPipeline.lora_state_dict, through
# which FluxPipeline.load_lora_weights reads a file, keeps the first two and leaves out the third.
# No error, warning or line of the log says so, down to the level DEBUG, so that such a LoRA draws
# other pictures than its training did. sgflux counts and names what it leaves out of a LoRA file.
#
# Output seen with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 and Python 3.11:
#   3 layers in the file: transformer, CLIP, T5
#   read: text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora
#   read: transformer.transformer_blocks.0.attn.to_out.0
#   log: []
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds and loads no model.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import logging
import sys

import torch
from diffusers import FluxPipeline
from diffusers.utils import logging as diffusers_logging

said = []


class Listener(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


diffusers_logging.set_verbosity_debug()
diffusers_logging.add_handler(Listener())


def lora(name, width):
    return {
        f"{name}.lora_down.weight": torch.ones(4, width),
        f"{name}.lora_up.weight": torch.ones(width, 4),
        f"{name}.alpha": torch.tensor(4.0),
    }


file = {
    **lora("lora_unet_double_blocks_0_img_attn_proj", 3072),
    **lora("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 768),
    **lora("lora_te3_encoder_block_0_layer_0_SelfAttention_q", 4096),
}
read = FluxPipeline.lora_state_dict(dict(file))
layers = {name.split(".lora_A")[0].split(".lora_B")[0] for name in read}
layers = sorted({name.removesuffix(".down.weight").removesuffix(".up.weight") for name in layers})
print(f"{len(file) // 3} layers in the file: transformer, CLIP, T5")
for layer in layers:
    print("read:", layer)
print("log:", said)
kinds = {layer.split(".")[0] for layer in layers}
sys.exit(0 if kinds == {"transformer", "text_encoder"} and not said else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
