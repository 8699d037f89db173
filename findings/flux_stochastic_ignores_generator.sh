#!/usr/bin/env bash
# diffusers 0.42.1: a generator does not fix what FluxPipeline draws with stochastic_sampling.
#
# FlowMatchEulerDiscreteScheduler has the setting stochastic_sampling, with which each step draws new
# noise, and its step takes a generator for it. FluxPipeline gives its own generator to the first
# noise alone, so that the noise of the steps comes from torch's global generator: two calls with
# generators of the same seed draw two pictures. Without the setting they draw one. sgflux draws the
# noise of the steps from the generator, or seed, of each picture.
#
# Output seen with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 and Python 3.11:
#   stochastic_sampling=False, generators of seed 0 and 0: same picture
#   stochastic_sampling=True, generators of seed 0 and 0: other pictures
#   stochastic_sampling=True, also torch.manual_seed(1) before each call: same picture
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds and loads no weights.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import sys

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=8,
    num_attention_heads=2,
    joint_attention_dim=16,
    pooled_projection_dim=8,
    in_channels=16,
    axes_dims_rope=(2, 2, 4),
)


def pictures(stochastic, global_seed=None):
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=stochastic)
    rest = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipeline = FluxPipeline(scheduler=scheduler, transformer=transformer, **rest)
    pipeline.set_progress_bar_config(disable=True)
    found = []
    for _ in range(2):
        if global_seed is not None:
            torch.manual_seed(global_seed)
        found.append(
            pipeline(
                prompt_embeds=torch.zeros(1, 4, 16),
                pooled_prompt_embeds=torch.zeros(1, 8),
                height=32,
                width=32,
                num_inference_steps=4,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            ).images
        )
    return torch.equal(*found)


words = {True: "same picture", False: "other pictures"}
plain, stochastic, seeded = pictures(False), pictures(True), pictures(True, global_seed=1)
print("stochastic_sampling=False, generators of seed 0 and 0:", words[plain])
print("stochastic_sampling=True, generators of seed 0 and 0:", words[stochastic])
print("stochastic_sampling=True, also torch.manual_seed(1) before each call:", words[seeded])
sys.exit(0 if (plain, stochastic, seeded) == (True, False, True) else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
