"""tiny-flux's autoencoder: imitates a linear code, draws crisp pictures from a blurred one."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from sgflux.bases.flux1.latents import pack_latents, unpack_latents
from sgflux.files.writing import unfinished_folder
from sgflux.flow_matching import euler_step, inference_sigmas, noise_latents
from sgflux.world.tiny_flux.config import TrainBaseConfig, log
from sgflux.world.tiny_flux.model import (
    LIVE_CHANNELS,
    SHIFT,
    CaptionedFlux,
    LinearCode,
    make_autoencoder,
)
from sgflux.world.tiny_flux.scenes import to_pixels

DECODER_NOISE = 0.4  # largest standard deviation of the decoder's noise in training
SAMPLING_STEPS = 8
REDRAWN_STEPS = 4  # most of the last sampling steps that the transformer redraws for the decoder
POSTERIOR_STD = 0.02  # standard deviation that the encoder reports


def train_autoencoder(
    config: TrainBaseConfig,
    images: np.ndarray,
    captions: np.ndarray,
    code: LinearCode,
    model: CaptionedFlux,
) -> AutoencoderKL:
    """Train an encoder of the linear code and a decoder of crisp pictures from a blurred one.

    Half of what the decoder sees is the code with noise of up to DECODER_NOISE in it. The other
    half is the finished transformer's own: it redraws the picture in one to REDRAWN_STEPS of the
    last sampling steps, so that the decoder learns what such latents were meant to be.
    """
    folder = config.output_dir / "vae"
    if folder.exists():
        return AutoencoderKL.from_pretrained(folder).to(config.device)
    torch.manual_seed(config.seed)
    if config.start_from is None:
        vae = make_autoencoder()
    else:
        vae = AutoencoderKL.from_pretrained(config.start_from, subfolder="vae")
    vae.to(config.device, memory_format=torch.channels_last)
    with torch.no_grad():
        vae.decoder.conv_in.weight[:, LIVE_CHANNELS:] = 0
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    order = np.random.default_rng([config.seed, 0x7AE])
    half = config.vae_batch_size // 2
    started = time.time()
    for step in range(config.vae_steps):
        warm, left = min(1.0, (step + 1) / 50), 1 - step / config.vae_steps
        optimizer.param_groups[0]["lr"] = 2e-3 * warm * min(1.0, left / 0.5)
        chosen = order.choice(len(images), config.vae_batch_size, replace=False)
        pixels = to_pixels(images[chosen]).to(config.device)
        latents = code.encode(images[chosen])
        strength = DECODER_NOISE * torch.rand(config.vae_batch_size - half, 1, 1, 1)
        noisy = latents[half:] + strength * torch.randn_like(latents[half:])
        texts = [str(caption) for caption in captions[chosen[:half], 0]]
        redrawn = _redraw(config, model, latents[:half], texts, steps=1 + step % REDRAWN_STEPS)
        latents = latents.to(config.device)
        drawn = torch.cat([redrawn, noisy])
        drawn[:, LIVE_CHANNELS:] = 0  # sampling leaves noise there, which the decoder never sees
        with torch.autocast(config.device, torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(drawn.to(config.device)).sample
        difference = decoded.float() - pixels
        code_loss = (posterior.mean.float() - latents).square().mean()
        spread_loss = (posterior.logvar.float() - 2 * math.log(POSTERIOR_STD)).square().mean()
        loss = difference.abs().mean() + difference.square().mean() + code_loss
        (loss + 1e-3 * spread_loss).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == config.vae_steps - 1:
            psnr = -10 * math.log10(difference[half:].square().mean().item() / 4)
            message = f"vae {step}: loss {loss:.4f}, psnr {psnr:.1f} dB"
            message += f", code error {code_loss.sqrt():.3f}"
            log(config, f"{message}, {(time.time() - started) / (step + 1):.2f} s/step")
    vae.eval()
    with unfinished_folder(folder) as partial:
        vae.save_pretrained(partial)
        partial.rename(folder)
    return vae


@torch.no_grad()
def _redraw(
    config: TrainBaseConfig, model: CaptionedFlux, latents: Tensor, captions: list[str], steps: int
) -> Tensor:
    """Let the transformer redraw latents (B, 16, 16, 16) from ``steps`` before the end.

    Euler's method on the levels of an eight-step sample.
    """
    clip_ids, t5_ids = (ids.to(config.device) for ids in model.tokenize(captions))
    clean = pack_latents(latents)
    levels = inference_sigmas(SAMPLING_STEPS, shift=SHIFT)[-1 - steps :]
    states = noise_latents(clean, torch.randn_like(clean), levels[0]).to(config.device)
    for here, there in itertools.pairwise(levels):
        sigma = here.expand(len(clean)).to(config.device)
        with torch.autocast(config.device, torch.bfloat16):
            velocity, _, _ = model(states, sigma, clip_ids, t5_ids)
        states = euler_step(states, velocity.float(), here, there)
    return unpack_latents(states.cpu(), *latents.shape[2:])
