"""tiny-flux's transformer and text encoders, trained as one on the world's captions.

Shapes: N pictures, B batch, latents (N, 16, 16, 16), packed (B, 64, 64), L tokens of T5's
sequence.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.flux1.latents import pack_latents
from sgflux.bases.memory.attention_kernels import without_cudnn
from sgflux.bases.memory.compilation import allow_variants
from sgflux.errors import SgfluxError
from sgflux.files.writing import replacing
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.world.tiny_flux.config import TrainBaseConfig, log
from sgflux.world.tiny_flux.model import LIVE_DIMENSIONS, CaptionedFlux
from sgflux.world.tiny_flux.scenes import CAPTIONS_PER_KIND, caption_roles, shares_an_object

CHECKPOINT = "transformer.pt"
NEUTRAL_FROM = 0.75  # captions below this draw state the relation, above it they do not
EMPTY_FROM = 0.95  # and above this there is none


def make_optimizers(
    model: CaptionedFlux, *, muon_lr: float, lr: float
) -> tuple[list[torch.optim.Optimizer], list[float]]:
    """Make Muon for a model's hidden matrices and AdamW for all else; return their rates, too.

    AdamW has what is trained of embeddings, modulations, outputs and vectors.
    """
    if not hasattr(torch.optim, "Muon"):
        raise SgfluxError("training the base needs torch.optim.Muon: torch >= 2.9")
    outer = ("embed", "norm", "layout_head", "role_head", "shared", "relative_attention")
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_outer = name.startswith("transformer.proj_out") or any(part in name for part in outer)
        (matrices if parameter.ndim == 2 and not is_outer else others).append(parameter)
    muon = torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    return [muon, adamw], [muon_lr, lr]


def learning_rate_factor(step: int, steps: int, *, warmup: int, decay: float) -> float:
    """Return a warm-up, a plateau, and a linear fall to 0 over the last ``decay`` of steps."""
    return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1.0, steps * decay))


def compile_blocks(model: CaptionedFlux) -> None:
    """Compile the transformer's blocks, each by itself."""
    allow_variants()
    flux = model.transformer
    for block in (*flux.transformer_blocks, *flux.single_transformer_blocks):
        block.compile()


@dataclass(frozen=True)
class CaptionTable:
    """The distinct captions of the training set, as token ids; the last one is empty.

    Attributes:
        texts: U distinct captions, sorted, and "".
        rows: Indices of each scene's captions, relational first, (N, 2 * CAPTIONS_PER_KIND) int64.
        ends: Cumulative sums of the weights with which scenes are drawn, (N,) float64.
        clip_ids, t5_ids: Token ids of the texts, (U + 1, 32) and (U + 1, L) int64.
    """

    texts: list[str]
    rows: Tensor
    ends: Tensor
    clip_ids: Tensor
    t5_ids: Tensor

    @classmethod
    def build(
        cls, captions: np.ndarray, model: CaptionedFlux, *, sharing_weight: float
    ) -> CaptionTable:
        """Tokenise captions (N, 2 * CAPTIONS_PER_KIND) with the model's tokenizers."""
        unique, inverse = np.unique(captions, return_inverse=True)
        texts = [*(str(caption) for caption in unique), ""]
        rows = torch.from_numpy(inverse.reshape(captions.shape))
        sharing = torch.tensor([shares_an_object(str(caption)) for caption in captions[:, 0]])
        ends = torch.where(sharing, sharing_weight, 1.0).double().cumsum(0)
        return cls(texts, rows, ends, *model.tokenize(texts))

    def draw_scenes(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw scenes by their weights, (count,) int64; ``count`` may be 0."""
        points = torch.rand(count, dtype=torch.float64, generator=generator) * self.ends[-1]
        return torch.searchsorted(self.ends, points, right=True)

    def draw(self, scenes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a caption for each of the scenes (B,), in training's mixture of kinds.

        Returns:
            Rows of the captions, and of those that state the same in reading order, (B,) int64.
        """
        kind = torch.rand(len(scenes), generator=generator)
        order = torch.randint(CAPTIONS_PER_KIND, (len(scenes),), generator=generator)
        rows = self.rows[scenes, order + CAPTIONS_PER_KIND * (kind > NEUTRAL_FROM)]
        rows = rows.masked_fill(kind > EMPTY_FROM, len(self.texts) - 1)
        return rows, torch.where(kind > NEUTRAL_FROM, rows, self.rows[scenes, 0])


def sample_base_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Draw sigmas, half uniform, half logit-normal around 0.67, where layouts are decided."""
    uniform = torch.rand(count, generator=generator)
    normal = torch.sigmoid(torch.randn(count, generator=generator) + 0.7)
    return torch.where(torch.arange(count) % 2 == 0, uniform, normal)


def train_transformer(
    config: TrainBaseConfig,
    clean: Tensor,
    captions: np.ndarray,
    layouts: np.ndarray,
) -> CaptionedFlux:
    """Train by flow matching, layout and roles; return the weights' moving average.

    Clean latents are (N, 16, 16, 16) bfloat16, captions and layouts those of :func:`make_scenes`.

    The layout term asks the middle of the network where each object of the caption goes. It comes
    from the world's boxes, never from the judge that measures the base. The role term asks the text
    encoder who is subject and who is object, which real FLUX's text encoders know from elsewhere:
    without it both objects and the predicate are drawn long before their roles are told apart.
    """
    torch.manual_seed(config.seed + 1)
    model = CaptionedFlux(text_length=config.text_length)
    if config.start_from is not None:
        model.load_pipeline(config.start_from)
    if config.keep_text:
        for part in (model.clip, model.t5):
            part.requires_grad_(False)
    table = CaptionTable.build(captions, model, sharing_weight=config.sharing_weight)
    roles = np.packbits(
        np.stack([caption_roles(text, length=config.text_length) for text in table.texts]), axis=-1
    )
    log(config, f"{len(table.texts)} captions, latents {tuple(clean.shape)}")

    model.to(config.device)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    if config.device == "cpu":
        # PyTorch's fused attention is slow backwards in bf16 on CPU (measured: 40 ms a call
        # against 4 ms for the plain formula at this size).
        model.transformer.set_attention_backend("_native_math")
    optimizers, base_lrs = make_optimizers(model, muon_lr=config.muon_lr, lr=config.lr)
    count = sum(parameter.numel() for parameter in model.parameters())
    log(config, f"{count / 1e6:.2f} M parameters")

    first = 0
    checkpoint = config.output_dir / CHECKPOINT
    if checkpoint.exists():
        # On the CPU first: load_state_dict puts everything where it belongs on a GPU.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average = {name: value.to(config.device) for name, value in state["average"].items()}
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        first = state["step"]
        log(config, f"resumed at step {first}")
    if config.compile:
        compile_blocks(model)

    losses: list[float] = []
    layout_losses: list[float] = []
    role_losses: list[float] = []
    started = time.time()
    for step in range(first, config.max_steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = table.draw_scenes(config.batch_size, generator)
        rows, _ = table.draw(chosen, generator)
        latents = pack_latents(clean[chosen].float())
        noise = torch.randn(latents.shape, generator=generator)
        sigma = sample_base_sigmas(config.batch_size, generator)
        noisy = noise_latents(latents, noise, sigma)

        with without_cudnn():
            with torch.autocast(config.device, torch.bfloat16):
                velocity, layout, said = model(
                    noisy.to(config.device),
                    sigma.to(config.device),
                    table.clip_ids[rows].to(config.device),
                    table.t5_ids[rows].to(config.device),
                )
            target = velocity_target(latents, noise).to(config.device)
            live = slice(0, LIVE_DIMENSIONS)
            loss = F.mse_loss(velocity[..., live].float(), target[..., live])
            covered = torch.from_numpy(np.unpackbits(layouts[chosen.numpy()], axis=-1))
            covered = covered.mT.float().to(config.device)
            layout_loss = F.binary_cross_entropy_with_logits(layout.float(), covered)
            stated = np.unpackbits(roles[rows.numpy()], axis=-1)
            role_loss = F.binary_cross_entropy_with_logits(
                said.float(), torch.from_numpy(stated).float().to(config.device)
            )
            auxiliary = config.layout_weight * layout_loss + config.role_weight * role_loss
            (loss + auxiliary).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = learning_rate_factor(
            step, config.max_steps, warmup=config.warmup_steps, decay=config.decay_share
        )
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
        role_losses.append(role_loss.item())
        if not math.isfinite(losses[-1]):
            raise SgfluxError(f"the loss of step {step} is {losses[-1]}; resume from a checkpoint")
        if (step + 1) % 50 == 0:
            rate = (time.time() - started) / (step + 1 - first)
            left = rate * (config.max_steps - step - 1) / 60
            recent = sum(losses[-200:]) / len(losses[-200:])
            layout_recent = sum(layout_losses[-50:]) / len(layout_losses[-50:])
            message = f"step {step + 1}/{config.max_steps}: loss {recent:.4f}, "
            role_recent = sum(role_losses[-50:]) / len(role_losses[-50:])
            message += f"layout {layout_recent:.4f}, roles {role_recent:.5f}, {rate:.3f} s/step"
            log(config, f"{message}, {left:.0f} min left")
        if (step + 1) % config.save_every == 0 or step + 1 == config.max_steps:
            state = {
                "step": step + 1,
                "model": model.state_dict(),
                "average": average,
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            }
            save_checkpoint(state, checkpoint)
    model.load_state_dict(average)
    return model.eval()


def save_checkpoint(state: dict[str, object], path: Path) -> None:
    """Write a checkpoint whole, or not at all."""
    with replacing(path) as file:
        torch.save(state, file)
