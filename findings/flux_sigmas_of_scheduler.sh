#!/usr/bin/env bash
# diffusers 0.42.1: FLUX.1's scheduler itself takes other noise levels than FluxPipeline with it.
#
# scheduler.set_timesteps(4) spreads the levels evenly from 1 to 1/1000, both ends included. The
# pipeline hands its own list to the same scheduler: from 1 to 1/4. So a sampling loop of one's own
# around set_timesteps(4) is almost without noise after three coarse steps, and its fourth step
# changes next to nothing. With FLUX.1-dev's shift the two differ more. sgflux hands the pipeline's
# list to the scheduler, too.
#
# Output seen with diffusers 0.42.1, transformers 5.24.0, torch 2.14.1 and Python 3.11:
#   schnell, set_timesteps(4): [1.0, 0.667, 0.334, 0.001]
#   schnell, FluxPipeline with 4 steps: [1.0, 0.75, 0.5, 0.25]
#   dev at 64 x 64 tokens, set_timesteps(4): [1.0, 0.863, 0.613, 0.003]
#   dev at 64 x 64 tokens, FluxPipeline with 4 steps: [1.0, 0.905, 0.76, 0.513]
#
# Exits with 1 if that changes. It needs Python 3.11 or newer, pip, a package index and some GB of
# disk for PyTorch; it runs on the CPU in seconds, with a small random transformer and autoencoder.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "diffusers==0.42.1" "transformers==5.24.0" "torch==2.14.1"
cat > "$work/look.py" <<'PY'
import sys

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)

transformer = FluxTransformer2DModel(
    in_channels=4,
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=16,
    num_attention_heads=2,
    joint_attention_dim=8,
    pooled_projection_dim=8,
    axes_dims_rope=(4, 4, 8),
)
vae = AutoencoderKL(latent_channels=1, block_out_channels=(4,), norm_num_groups=2)
# The settings of the published scheduler_config.json of each model.
models = {
    "schnell": {"shift": 1.0},
    "dev": {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
}
expected = {
    "schnell": ([1.0, 0.667, 0.334, 0.001], [1.0, 0.75, 0.5, 0.25]),
    "dev": ([1.0, 0.863, 0.613, 0.003], [1.0, 0.905, 0.76, 0.513]),
}


def levels(scheduler):
    *shown, last = scheduler.sigmas.tolist()
    assert last == 0
    return [round(level, 3) for level in shown]


found = {}
for name, settings in models.items():
    scheduler = FlowMatchEulerDiscreteScheduler(**settings)
    # mu is max_shift at 4096 image tokens.
    mu = {"mu": 1.15} if name == "dev" else {}
    scheduler.set_timesteps(4, **mu)
    alone = levels(scheduler)
    pipeline = FluxPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    side = 64 * 2 * pipeline.vae_scale_factor
    pipeline(
        prompt_embeds=torch.zeros(1, 4, 8),
        pooled_prompt_embeds=torch.zeros(1, 8),
        height=side,
        width=side,
        num_inference_steps=4,
        output_type="latent",
    )
    found[name] = (alone, levels(pipeline.scheduler))
    size = " at 64 x 64 tokens" if mu else ""
    print(f"{name}{size}, set_timesteps(4): {found[name][0]}")
    print(f"{name}{size}, FluxPipeline with 4 steps: {found[name][1]}")
sys.exit(0 if found == expected else 1)
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/look.py" 2>/dev/null
