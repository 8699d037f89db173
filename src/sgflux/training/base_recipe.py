"""The recipe of tiny-flux: an ordinary FLUX pipeline, trained from nothing on the bundled world.

Stages, each resumable and each skipped when its result is already there:

    scenes       pictures of the world and their captions      -> scenes.npz
    transformer  text encoders and FluxTransformer2DModel      -> step*.pt
    autoencoder  AutoencoderKL that imitates a linear code     -> vae/
    pipeline     all of it, as diffusers saves it              -> pipeline/

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
from sgflux.data.world import OBJECT_NAMES, PREDICATES, WorldScene, sample_scene
from sgflux.errors import SgfluxError
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.backbone import image_ids, pack_latents, text_ids, unpack_latents
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
LAYOUT_ROWS = len(OBJECT_NAMES) + 2 * len(PREDICATES)
LAYOUT_BLOCK = 4  # double blocks below the layout head
DECODER_NOISE = 0.4  # largest standard deviation of the decoder's noise in training
SAMPLING_STEPS = 8
REDRAWN_STEPS = 6  # most sampling steps in which the transformer redraws for the decoder
POSTERIOR_STD = 0.02  # standard deviation that the encoder reports


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
    layout_weight: float = 3.0
    """Weight of the auxiliary layout term."""
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


def scene_layout(scene: WorldScene) -> np.ndarray:
    """Where every object is, and as whose subject or object: (62, 64) bool over the image tokens.

    The first 14 rows are the objects, then come the subjects of the 24 predicates, then their
    objects. A token belongs to a box that covers its centre.
    """
    side = RESOLUTION // 8
    centres = 8 * np.arange(side) + 4
    rows = np.zeros((LAYOUT_ROWS, side, side), bool)
    covered = []
    for name, (x, y, width, height) in zip(scene.objects, scene.boxes, strict=True):
        across = (centres >= x - 1) & (centres <= x + width + 1)
        down = (centres >= y - 1) & (centres <= y + height + 1)
        covered.append(down[:, None] & across[None, :])
        rows[OBJECT_NAMES.index(name)] |= covered[-1]
    first = len(OBJECT_NAMES)
    for subject, predicate, object_ in scene.relationships:
        row = first + PREDICATES.index(predicate)
        rows[row] |= covered[subject]
        rows[row + len(PREDICATES)] |= covered[object_]
    return rows.reshape(LAYOUT_ROWS, side * side)


def _render_chunk(
    arguments: tuple[int, int, int],
) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    seed, chunk, count = arguments
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xBA5E, chunk]))
    order = random.Random(f"{seed} base captions {chunk}")
    images, captions, layouts = np.empty((count, RESOLUTION, RESOLUTION, 3), np.uint8), [], []
    for index in range(count):
        triples = 1 + int(rng.choice(len(SCENE_SIZES), p=SCENE_SIZES))
        scene = sample_scene(rng, triples=triples, resolution=RESOLUTION)
        images[index] = scene.image
        captions.append(scene_captions(scene, order))
        layouts.append(scene_layout(scene))
    return images, captions, np.packbits(np.stack(layouts), axis=-1)


def make_scenes(config: TrainBaseConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (N, 64, 64, 3) uint8, captions (N, 2 * CAPTIONS_PER_KIND) str, layouts.

    Layouts are those of :func:`scene_layout`, eight tokens a byte: (N, 62, 8) uint8.
    """
    path = config.output_dir / "scenes.npz"
    if not path.exists():
        chunk = 500
        jobs = [(config.seed, c, chunk) for c in range(math.ceil(config.scenes / chunk))]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(_render_chunk, jobs))
        images = np.concatenate([part[0] for part in parts])[: config.scenes]
        captions = np.array([row for part in parts for row in part[1]])[: config.scenes]
        layouts = np.concatenate([part[2] for part in parts])[: config.scenes]
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, images=images, captions=captions, layouts=layouts)
        partial.replace(path)
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"], stored["captions"], stored["layouts"]


def _to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return pixels.contiguous(memory_format=torch.channels_last)


# --- latents ------------------------------------------------------------------------------------

LATENT_CHANNELS = 16
LIVE_CHANNELS = 8  # those that carry the picture; the others are zero
LIVE_DIMENSIONS = 4 * LIVE_CHANNELS  # of a packed token's 64
PATCH = 4  # pixels of the picture's side that one latent position covers


@dataclass(frozen=True)
class LinearCode:
    """The latents: principal components of 4 x 4 patches, which the autoencoder learns to imitate.

    A small transformer learns linear latents faster than those that an autoencoder finds for
    itself. It must also carry the noise of every latent dimension from its input to its output:
    64 dimensions a token crowd a width of 128. So only 8 of FLUX's 16 channels are used, and the
    transformer's weights for the others are zero, in and out.

    Attributes:
        offset: mean patch, (48,) float32.
        basis: components over patches, (48, 8) float32; the code has zero mean and, over its
            channels, unit variance, and the square root of the components' spread.
    """

    offset: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, images: np.ndarray) -> LinearCode:
        """The code of pictures (N, 64, 64, 3) uint8."""
        patches = _patches(images).flatten(0, 2).double()
        offset = patches.mean(0)
        variances, components = torch.linalg.eigh(torch.cov((patches - offset).mT))
        variances = variances.flip(0)[:LIVE_CHANNELS]
        components = components.flip(1)[:, :LIVE_CHANNELS]
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        components = components * largest.sign()  # eigenvectors have no sign of their own
        components = components * variances**-0.25 / variances.sqrt().mean().sqrt()
        return cls(offset.float(), components.float())

    def encode(self, images: np.ndarray) -> Tensor:
        """Pictures (N, 64, 64, 3) uint8 to latents (N, 16, 16, 16) float32, half of them zero."""
        code = (_patches(images) - self.offset) @ self.basis
        code = F.pad(code, (0, LATENT_CHANNELS - LIVE_CHANNELS))
        return code.permute(0, 3, 1, 2).contiguous()


def _patches(images: np.ndarray) -> Tensor:
    """uint8 (N, 64, 64, 3) -> float32 (N, 16, 16, 48) in [-1, 1]."""
    side = RESOLUTION // PATCH
    pixels = torch.from_numpy(images).float().div_(127.5).sub_(1)
    tiles = pixels.reshape(len(images), side, PATCH, side, PATCH, 3).transpose(2, 3)
    return tiles.reshape(len(images), side, side, PATCH * PATCH * 3)


# --- autoencoder --------------------------------------------------------------------------------


def make_autoencoder() -> AutoencoderKL:
    """FLUX's autoencoder class with 16 latent channels and two halvings."""
    widths = (32, 64, 96)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


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

    image_ids: Tensor
    text_ids: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_tokenizer(OBJECT_NAMES, max_length=CLIP_LENGTH, start=True)
        self.tokenizer_2 = make_tokenizer(OBJECT_NAMES, max_length=SEQUENCE_LENGTH, start=False)
        self.clip, self.t5 = make_text_encoders(self.tokenizer, self.tokenizer_2)
        self.transformer = make_transformer()
        width = self.transformer.inner_dim
        self.layout_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, LAYOUT_ROWS))
        with torch.no_grad():
            self.transformer.x_embedder.weight[:, LIVE_DIMENSIONS:] = 0
            self.transformer.proj_out.weight[LIVE_DIMENSIONS:] = 0
            self.transformer.proj_out.bias[LIVE_DIMENSIONS:] = 0
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

    def forward(
        self, latents: Tensor, sigma: Tensor, clip_ids: Tensor, t5_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Velocity and layout of packed latents (B, 64, 64) at sigma (B,) for token ids.

        The transformer's own forward pass, block by block, because the layout head reads the image
        tokens in its middle. The head is thrown away with the training.

        Returns:
            Velocity (B, 64, 64) and layout logits (B, 64, 62).
        """
        flux = self.transformer
        live = F.pad(latents[..., :LIVE_DIMENSIONS], (0, latents.shape[2] - LIVE_DIMENSIONS))
        image = flux.x_embedder(live)  # without noise in them, dead weights stay at zero
        temb = flux.time_text_embed(sigma * 1000, self.clip(clip_ids).pooler_output)
        text = flux.context_embedder(self.t5(t5_ids)[0])
        rotary = flux.pos_embed(torch.cat([self.text_ids, self.image_ids]))
        for block in flux.transformer_blocks[:LAYOUT_BLOCK]:
            text, image = block(image, text, temb, rotary)
        layout = self.layout_head(image)
        for block in (*flux.transformer_blocks[LAYOUT_BLOCK:], *flux.single_transformer_blocks):
            text, image = block(image, text, temb, rotary)
        return flux.proj_out(flux.norm_out(image, temb)), layout


def split_parameters(model: CaptionedFlux) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices for Muon; embeddings, modulations, output and vectors for AdamW."""
    outer = ("embed", "norm", "layout_head", "shared", "relative_attention")
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
    """Half uniform, half logit-normal around sigma 0.5, where shapes are decided."""
    uniform = torch.rand(count, generator=generator)
    normal = torch.sigmoid(torch.randn(count, generator=generator))
    return torch.where(torch.arange(count) % 2 == 0, uniform, normal)


def train_transformer(
    config: TrainBaseConfig,
    clean: Tensor,
    captions: np.ndarray,
    layouts: np.ndarray,
) -> CaptionedFlux:
    """Flow matching on captions, helped by the layout; returns the weights' moving average.

    Clean latents are (N, 16, 16, 16) bfloat16, captions and layouts those of :func:`make_scenes`.

    The layout term asks the middle of the network where each object of the caption goes. It comes
    from the world's boxes, never from the judge that measures the base.
    """
    torch.manual_seed(config.seed + 1)
    model = CaptionedFlux()
    unique, inverse = np.unique(captions, return_inverse=True)
    inverse = inverse.reshape(captions.shape)
    clip_ids, t5_ids = model.tokenize([str(caption) for caption in unique])
    empty_clip, empty_t5 = model.tokenize([""])
    _log(config, f"{len(unique)} captions, latents {tuple(clean.shape)}")

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

    losses: list[float] = []
    layout_losses: list[float] = []
    started = time.time()
    for step in range(first, config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.randint(len(clean), (config.batch_size,), generator=generator)
        kind = torch.rand(config.batch_size, generator=generator)
        order = torch.randint(CAPTIONS_PER_KIND, (config.batch_size,), generator=generator)
        column = order + CAPTIONS_PER_KIND * (kind > 0.75)
        rows = torch.from_numpy(inverse[chosen.numpy(), column.numpy()])
        clip_batch, t5_batch = clip_ids[rows], t5_ids[rows]
        clip_batch[kind > 0.95], t5_batch[kind > 0.95] = empty_clip[0], empty_t5[0]

        latents = pack_latents(clean[chosen].float())
        noise = torch.randn(latents.shape, generator=generator)
        sigma = sample_base_sigmas(config.batch_size, generator)
        noisy = noise_latents(latents, noise, sigma)

        with torch.autocast(config.device, torch.bfloat16):
            velocity, layout = model(
                noisy.to(config.device),
                sigma.to(config.device),
                clip_batch.to(config.device),
                t5_batch.to(config.device),
            )
        target = velocity_target(latents, noise).to(config.device)
        live = slice(0, LIVE_DIMENSIONS)
        loss = F.mse_loss(velocity[..., live].float(), target[..., live])
        covered = torch.from_numpy(np.unpackbits(layouts[chosen.numpy()], axis=-1))
        covered = covered.mT.float().to(config.device)
        layout_loss = F.binary_cross_entropy_with_logits(layout.float(), covered)
        (loss + config.layout_weight * layout_loss).backward()
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
        layout_losses.append(layout_loss.item())
        if not math.isfinite(losses[-1]):
            raise SgfluxError(f"the loss of step {step} is {losses[-1]}; resume from a checkpoint")
        if (step + 1) % 50 == 0:
            rate = (time.time() - started) / (step + 1 - first)
            left = rate * (config.steps - step - 1) / 60
            recent = sum(losses[-200:]) / len(losses[-200:])
            layout_recent = sum(layout_losses[-50:]) / len(layout_losses[-50:])
            message = f"step {step + 1}/{config.steps}: loss {recent:.4f}, "
            message += f"layout {layout_recent:.4f}, {rate:.3f} s/step"
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


# --- autoencoder's training ---------------------------------------------------------------------


def train_autoencoder(
    config: TrainBaseConfig,
    images: np.ndarray,
    captions: np.ndarray,
    code: LinearCode,
    model: CaptionedFlux,
) -> AutoencoderKL:
    """The encoder imitates the linear code; the decoder draws crisp pictures from a blurred one.

    Half of what the decoder sees is the code with noise of up to DECODER_NOISE in it. The other
    half is the finished transformer's own: it redraws the picture from one to REDRAWN_STEPS eighths
    of noise, so that the decoder learns what such latents were meant to be.
    """
    folder = config.output_dir / "vae"
    if folder.exists():
        return AutoencoderKL.from_pretrained(folder).to(config.device)
    torch.manual_seed(config.seed)
    vae = make_autoencoder().to(config.device, memory_format=torch.channels_last)
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
        pixels = _to_pixels(images[chosen]).to(config.device)
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
            _log(config, f"{message}, {(time.time() - started) / (step + 1):.2f} s/step")
    vae.eval()
    _save_folder(vae, folder)
    return vae


@torch.no_grad()
def _redraw(
    config: TrainBaseConfig, model: CaptionedFlux, latents: Tensor, captions: list[str], steps: int
) -> Tensor:
    """The transformer's picture of latents (B, 16, 16, 16) that it gets at sigma = steps / 8.

    Euler's method on the grid of an eight-step sample.
    """
    clip_ids, t5_ids = (ids.to(config.device) for ids in model.tokenize(captions))
    clean = pack_latents(latents)
    sigma = torch.full((len(clean),), steps / SAMPLING_STEPS)
    states = noise_latents(clean, torch.randn_like(clean), sigma).to(config.device)
    for left in range(steps, 0, -1):
        sigma = torch.full((len(clean),), left / SAMPLING_STEPS, device=config.device)
        with torch.autocast(config.device, torch.bfloat16):
            velocity, _ = model(states, sigma, clip_ids, t5_ids)
        states = states - velocity.float() / SAMPLING_STEPS
    return unpack_latents(states.cpu(), *latents.shape[2:])


def _save_folder(model: AutoencoderKL, folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    partial.rename(folder)


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
    # Where the autoencoder was loaded from is nobody's business.
    vae_config = json.loads((partial / "vae/config.json").read_text())
    vae_config.pop("_name_or_path", None)
    (partial / "vae/config.json").write_text(json.dumps(vae_config, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def train_base(config: TrainBaseConfig) -> Path:
    """Run the recipe from where it stands; returns the finished pipeline's folder."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    recipe = {key: str(value) for key, value in asdict(config).items()}
    (config.output_dir / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    images, captions, layouts = make_scenes(config)
    code = LinearCode.fit(images[:4096])
    parts = [code.encode(images[start : start + 1000]) for start in range(0, len(images), 1000)]
    clean = torch.cat([part.bfloat16() for part in parts])
    model = train_transformer(config, clean, captions, layouts)
    vae = train_autoencoder(config, images, captions, code, model)
    folder = config.output_dir / "pipeline"
    save_pipeline(model, vae, folder)
    _log(config, f"pipeline written to {folder}")
    return folder
