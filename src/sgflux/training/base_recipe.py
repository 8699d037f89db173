"""The recipe of tiny-flux: an ordinary FLUX pipeline, trained from nothing on the bundled world.

Three stages, each resumable and each skipped when its result is already there:

    scenes       pictures of the world and their captions      -> scenes.npz
    autoencoder  AutoencoderKL, 16 latent channels             -> vae/
    transformer  text encoders and FluxTransformer2DModel      -> step*.pt, then the pipeline folder

The base sees relational and neutral captions, as real FLUX did: it can draw every relation and
knows the words for it, and from a neutral caption it draws any relation.

Shapes: B batch, H = W = 64 pixels, latents (B, 16, 16, 16), packed (B, 64, 64), L = 24 tokens.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.data.examples import prompts_for_graph
from sgflux.data.world import OBJECT_NAMES, WorldScene, sample_scene
from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.backbone import image_ids, pack_latents, text_ids
from sgflux.training.base_text import (
    CLIP_WIDTH,
    SEQUENCE_LENGTH,
    T5_WIDTH,
    make_text_encoders,
    make_tokenizer,
)

CLIP_LENGTH = 32
RESOLUTION = 64
CAPTIONS_PER_KIND = 2  # orderings kept of every scene's relational and neutral caption
SCENE_SIZES = (0.5, 0.35, 0.15)  # shares of scenes with one, two and three triples


@dataclass(frozen=True)
class TrainBaseConfig:
    """Train tiny-flux from nothing (hours on two CPU cores, minutes on a GPU)."""

    output_dir: Path = Path("runs/tiny-flux")
    """Working folder; the finished pipeline is written to its subfolder ``pipeline``."""
    scenes: int = 60_000
    """Pictures of the world to train on."""
    vae_steps: int = 1_400
    """Steps of the autoencoder."""
    vae_batch_size: int = 16
    """Pictures a step of the autoencoder."""
    steps: int = 7_000
    """Steps of the transformer; may be changed when resuming (it only moves the final decay)."""
    batch_size: int = 64
    """Pictures a step of the transformer."""
    lr: float = 1e-3
    """AdamW's learning rate for embeddings, modulations and vectors."""
    muon_lr: float = 6e-3
    """Muon's learning rate for hidden matrices, with AdamW-matched update size."""
    warmup_steps: int = 200
    """Linear warm-up at the start of the transformer's training."""
    decay_share: float = 0.35
    """The last share of the steps, over which the learning rate falls to zero."""
    ema_decay: float = 0.999
    """Exponential moving average of the weights that are written out."""
    save_every: int = 500
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of scenes, weights, noise and order."""
    device: str = "cpu"
    """Device of the training."""
    compile: bool = True
    """Compile the transformer's blocks (needs a C++ compiler on CPU)."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""


def _log(config: TrainBaseConfig, message: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}"
    print(line, flush=True)
    with (config.output_dir / "train.log").open("a", encoding="utf-8") as log:
        log.write(line + "\n")


# --- scenes -------------------------------------------------------------------------------------


def scene_captions(scene: WorldScene, rng: random.Random) -> list[str]:
    """Relational captions, then neutral ones, in random order of triples and of objects."""
    relationships, objects = list(scene.relationships), list(scene.objects)
    relational, neutral = [], []
    for _ in range(CAPTIONS_PER_KIND):
        rng.shuffle(relationships)
        rng.shuffle(objects)
        stated = SceneGraph(objects=scene.objects, relationships=tuple(relationships))
        relational.append(prompts_for_graph(stated, "relational"))
        unrelated = SceneGraph(objects=tuple(objects), relationships=())
        neutral.append(prompts_for_graph(unrelated, "neutral"))
    return relational + neutral


def _render_chunk(arguments: tuple[int, int, int]) -> tuple[np.ndarray, list[list[str]]]:
    seed, chunk, count = arguments
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xBA5E, chunk]))
    order = random.Random(f"{seed} base captions {chunk}")
    images, captions = np.empty((count, RESOLUTION, RESOLUTION, 3), np.uint8), []
    for index in range(count):
        triples = 1 + int(rng.choice(len(SCENE_SIZES), p=SCENE_SIZES))
        scene = sample_scene(rng, triples=triples, resolution=RESOLUTION)
        images[index] = scene.image
        captions.append(scene_captions(scene, order))
    return images, captions


def make_scenes(config: TrainBaseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 64, 64, 3) uint8 and captions (N, 2 * CAPTIONS_PER_KIND) str."""
    path = config.output_dir / "scenes.npz"
    if not path.exists():
        chunk = 500
        jobs = [(config.seed, c, chunk) for c in range(math.ceil(config.scenes / chunk))]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(_render_chunk, jobs))
        images = np.concatenate([part[0] for part in parts])[: config.scenes]
        captions = np.array([row for part in parts for row in part[1]])[: config.scenes]
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, images=images, captions=captions)
        partial.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"], stored["captions"]


def _to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return pixels.contiguous(memory_format=torch.channels_last)


# --- autoencoder --------------------------------------------------------------------------------


def make_autoencoder() -> AutoencoderKL:
    """FLUX's autoencoder class with 16 latent channels and two halvings."""
    widths = (16, 32, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def train_autoencoder(config: TrainBaseConfig, images: np.ndarray) -> AutoencoderKL:
    """L1 + MSE reconstruction with a light KL term; latents are then scaled to unit size."""
    folder = config.output_dir / "vae"
    if folder.exists():
        return AutoencoderKL.from_pretrained(folder).to(config.device)
    torch.manual_seed(config.seed)
    vae = make_autoencoder().to(config.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    order = np.random.default_rng([config.seed, 0x7AE])
    started = time.time()
    for step in range(config.vae_steps):
        warm, left = min(1.0, (step + 1) / 50), 1 - step / config.vae_steps
        optimizer.param_groups[0]["lr"] = 2e-3 * warm * min(1.0, left / 0.5)
        chosen = order.choice(len(images), config.vae_batch_size, replace=False)
        pixels = _to_pixels(images[chosen]).to(config.device)
        with torch.autocast(config.device, torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        difference = decoded.float() - pixels
        kl = posterior.kl().float().mean() / pixels[0].numel()
        loss = difference.abs().mean() + difference.square().mean() + 1e-4 * kl
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == config.vae_steps - 1:
            psnr = -10 * math.log10(difference.square().mean().item() / 4)
            rate = (time.time() - started) / (step + 1)
            _log(config, f"vae {step}: loss {loss:.4f} psnr {psnr:.1f} dB, {rate:.2f} s/step")
    vae.eval()
    mean, _ = encode_latents(config, vae, images[:2048])
    vae.register_to_config(
        shift_factor=round(mean.mean().item(), 4), scaling_factor=round(1 / mean.std().item(), 4)
    )
    _log(config, f"vae latents: shift {vae.config.shift_factor}, scale {vae.config.scaling_factor}")
    _save_folder(vae, folder)
    return vae


@torch.no_grad()
def encode_latents(
    config: TrainBaseConfig, vae: AutoencoderKL, images: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations, (N, 16, 16, 16) bfloat16, unscaled."""
    means, stds = [], []
    for start in range(0, len(images), 256):
        with torch.autocast(config.device, torch.bfloat16):
            pixels = _to_pixels(images[start : start + 256]).to(config.device)
            posterior = vae.encode(pixels).latent_dist
        means.append(posterior.mean.bfloat16())
        stds.append(posterior.std.bfloat16())
    return torch.cat(means), torch.cat(stds)


def _save_folder(model: AutoencoderKL, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    partial.rename(folder)


# --- transformer --------------------------------------------------------------------------------


def make_transformer() -> FluxTransformer2DModel:
    """FLUX's transformer class: 8 double-stream and 2 single-stream blocks, hidden 128."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=8,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


class CaptionedFlux(nn.Module):
    """Text encoders and transformer, trained as one from token ids to velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_tokenizer(OBJECT_NAMES, max_length=CLIP_LENGTH, start=True)
        self.tokenizer_2 = make_tokenizer(OBJECT_NAMES, max_length=SEQUENCE_LENGTH, start=False)
        self.clip, self.t5 = make_text_encoders(self.tokenizer, self.tokenizer_2)
        self.transformer = make_transformer()
        side = RESOLUTION // 8
        self.register_buffer("image_ids", image_ids(side, side), persistent=False)
        self.register_buffer("text_ids", text_ids(SEQUENCE_LENGTH), persistent=False)

    def tokenize(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids of both encoders, (B, 32) and (B, 24) int64, padded as FluxPipeline pads."""
        ids = []
        for tokenizer in (self.tokenizer, self.tokenizer_2):
            encoded = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]
            if encoded.shape[1] > tokenizer.model_max_length:
                raise SgfluxError("a caption of the bundled world exceeds the text length")
            ids.append(encoded)
        return ids[0], ids[1]

    def forward(self, latents: Tensor, sigma: Tensor, clip_ids: Tensor, t5_ids: Tensor) -> Tensor:
        """Velocity (B, 64, 64) of packed latents (B, 64, 64) at sigma (B,) for token ids."""
        return self.transformer(
            hidden_states=latents,
            encoder_hidden_states=self.t5(t5_ids)[0],
            pooled_projections=self.clip(clip_ids).pooler_output,
            timestep=sigma,
            img_ids=self.image_ids,
            txt_ids=self.text_ids,
            return_dict=False,
        )[0]


def split_parameters(model: CaptionedFlux) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices for Muon; embeddings, modulations, output and vectors for AdamW."""
    outer = ("embed", "norm", "shared", "relative_attention")
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_outer = name.startswith("transformer.proj_out") or any(part in name for part in outer)
        (matrices if parameter.ndim == 2 and not is_outer else others).append(parameter)
    return matrices, others


def learning_rate_factor(step: int, config: TrainBaseConfig) -> float:
    """Warm-up, plateau, then a linear fall to zero over the last ``decay_share`` of the steps."""
    decay = max(1.0, config.steps * config.decay_share)
    return min(1.0, (step + 1) / config.warmup_steps, (config.steps - step) / decay)


def sample_base_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Half uniform, half logit-normal around sigma 0.6: the layout is decided in high noise."""
    uniform = torch.rand(count, generator=generator)
    normal = torch.sigmoid(0.4 + torch.randn(count, generator=generator))
    return torch.where(torch.arange(count) % 2 == 0, uniform, normal)


def train_transformer(
    config: TrainBaseConfig, vae: AutoencoderKL, images: np.ndarray, captions: np.ndarray
) -> CaptionedFlux:
    """Flow matching on captions; returns the moving average of the weights."""
    torch.manual_seed(config.seed + 1)
    model = CaptionedFlux()
    unique, inverse = np.unique(captions, return_inverse=True)
    inverse = inverse.reshape(captions.shape)
    clip_ids, t5_ids = model.tokenize([str(caption) for caption in unique])
    empty_clip, empty_t5 = model.tokenize([""])
    mean, std = encode_latents(config, vae, images)
    _log(config, f"{len(images)} scenes, {len(unique)} captions, latents {tuple(mean.shape)}")

    model.to(config.device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    if config.device == "cpu":
        # PyTorch's fused attention is slow backwards in bf16 on CPU (measured: 40 ms a call
        # against 4 ms for the plain formula at this size).
        model.transformer.set_attention_backend("_native_math")
    matrices, others = split_parameters(model)
    if not hasattr(torch.optim, "Muon"):
        raise SgfluxError("training the base needs torch.optim.Muon: torch >= 2.9")
    optimizers = [
        torch.optim.Muon(
            matrices, lr=config.muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    base_lrs = [config.muon_lr, config.lr]
    count = sum(parameter.numel() for parameter in model.parameters())
    _log(config, f"{count / 1e6:.2f} M parameters, {len(matrices)} matrices under Muon")

    first = 0
    checkpoint = latest_checkpoint(config.output_dir)
    if checkpoint is not None:
        state = torch.load(checkpoint, map_location=config.device, weights_only=True)
        model.load_state_dict(state["model"])
        average = state["average"]
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        first = state["step"]
        _log(config, f"resumed from {checkpoint.name}")
    if config.compile:
        for block in [*model.transformer.transformer_blocks]:
            block.compile()
        for block in [*model.transformer.single_transformer_blocks]:
            block.compile()

    scale, shift = vae.config.scaling_factor, vae.config.shift_factor
    losses: list[float] = []
    started = time.time()
    for step in range(first, config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(images), (config.batch_size,), generator=generator)
        kind = torch.rand(config.batch_size, generator=generator)
        order = torch.randint(CAPTIONS_PER_KIND, (config.batch_size,), generator=generator)
        column = order + CAPTIONS_PER_KIND * (kind > 0.75)
        rows = torch.from_numpy(inverse[chosen.numpy(), column.numpy()])
        clip_batch, t5_batch = clip_ids[rows], t5_ids[rows]
        clip_batch[kind > 0.95], t5_batch[kind > 0.95] = empty_clip[0], empty_t5[0]

        latents = mean[chosen].float()
        latents += std[chosen].float() * torch.randn(latents.shape, generator=generator)
        latents = pack_latents((latents - shift) * scale)
        noise = torch.randn(latents.shape, generator=generator)
        sigma = sample_base_sigmas(config.batch_size, generator)
        noisy = noise_latents(latents, noise, sigma)

        with torch.autocast(config.device, torch.bfloat16):
            velocity = model(
                noisy.to(config.device),
                sigma.to(config.device),
                clip_batch.to(config.device),
                t5_batch.to(config.device),
            )
        target = velocity_target(latents, noise).to(config.device)
        loss = F.mse_loss(velocity.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = learning_rate_factor(step, config)
        for optimizer, base_lr in zip(optimizers, base_lrs, strict=True):
            optimizer.param_groups[0]["lr"] = base_lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(config.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)

        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SgfluxError(f"the loss of step {step} is {losses[-1]}; resume from a checkpoint")
        if (step + 1) % 50 == 0:
            rate = (time.time() - started) / (step + 1 - first)
            left = rate * (config.steps - step - 1) / 60
            recent = sum(losses[-200:]) / len(losses[-200:])
            message = f"step {step + 1}/{config.steps}: loss {recent:.4f}, {rate:.3f} s/step"
            _log(config, f"{message}, {left:.0f} min left")
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            state = {
                "step": step + 1,
                "model": model.state_dict(),
                "average": average,
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            }
            _save_checkpoint(state, config.output_dir, step + 1)
    model.load_state_dict(average)
    return model.eval()


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    found = {int(path.stem[4:]): path for path in folder.glob("step*.pt")}
    return found[max(found)] if found else None


def _save_checkpoint(state: dict[str, object], folder: Path, step: int) -> None:
    partial = folder / "checkpoint.partial"
    torch.save(state, partial)
    partial.replace(folder / f"step{step}.pt")
    for path in folder.glob("step*.pt"):
        if int(path.stem[4:]) != step:
            path.unlink()


def save_pipeline(model: CaptionedFlux, vae: AutoencoderKL, folder: Path) -> None:
    """Write the ordinary diffusers folder; the transformer, most of it, in bfloat16.

    transformers loads weights in the precision they are stored in, diffusers in float32: with
    anything else in bfloat16 a plain ``from_pretrained`` would mix the two.
    """
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=model.clip,
        tokenizer=model.tokenizer,
        text_encoder_2=model.t5,
        tokenizer_2=model.tokenizer_2,
        transformer=model.transformer.bfloat16(),
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    # The class's public name, which every transformers release knows.
    index = json.loads((partial / "model_index.json").read_text())
    for name in ("tokenizer", "tokenizer_2"):
        index[name] = ["transformers", "PreTrainedTokenizerFast"]
    (partial / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def train_base(config: TrainBaseConfig) -> Path:
    """Run the recipe from where it stands; returns the finished pipeline's folder."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    recipe = {key: str(value) for key, value in asdict(config).items()}
    (config.output_dir / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    images, captions = make_scenes(config)
    vae = train_autoencoder(config, images)
    model = train_transformer(config, vae, images, captions)
    folder = config.output_dir / "pipeline"
    save_pipeline(model, vae, folder)
    _log(config, f"pipeline written to {folder}")
    return folder
