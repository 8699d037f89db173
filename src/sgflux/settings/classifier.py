"""Settings of ``sgflux train-classifier``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgflux.settings.checks import expect, typed_fields
from sgflux.settings.model import FLUX_SCHNELL

ClassifierKind = Literal["latent", "saliency"]
"""What a classifier of relations reads: a picture's latents, or the model's concept maps."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Train a classifier of relations, for the rankers 'latent' and 'saliency'."""

    train_jsonl: Path
    """Examples to learn from, one JSON object a line."""
    val_jsonl: Path
    """Examples to measure it on; they must show other pictures."""
    out_dir: Path
    """Folder of the classifier; must be new or empty."""
    kind: ClassifierKind = "latent"
    """What the classifier reads: a picture's latents, or the model's concept maps."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    height: int | None = None
    """Height of the images in pixels, as in the training that is to use it; None: the model's own
    size, at most 512."""
    width: int | None = None
    """Width of the images in pixels; None: the model's own size, at most 512."""
    crop: Literal["auto", "none", "center", "union"] = "auto"
    """How a photo gets the shape of --height and --width, as in training (see 'sgflux train
    --help')."""
    latent_cache_dir: Path | None = None
    """Folder that keeps latents and text features between runs."""
    model_id: str = FLUX_SCHNELL
    """FLUX on the hub, a diffusers folder, or 'tiny', the model that comes with the package."""
    components: str | None = None
    """If model_id is a single .safetensors file: the folder or hub id that has all else."""
    autoencoder: Path | None = None
    """The autoencoder as a file of its own (ae.safetensors), if model_id is a single file."""
    text_encoder: Path | None = None
    """The first text encoder, CLIP, as a file of its own (clip_l.safetensors), if model_id is a
    single file."""
    text_encoder_2: Path | None = None
    """The second text encoder, T5, as a file of its own (t5xxl_fp16.safetensors), if model_id is a
    single file."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Precision of the model; the classifier is in float32."""
    channels: int = 96
    """Width of the classifier, a multiple of 8."""
    steps: int = 2000
    """Training steps."""
    batch_size: int = 64
    """Statements a step."""
    lr: float = 1e-3
    """Peak learning rate of AdamW; it rises for 5 % of the steps and falls as a cosine."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    seed: int = 0
    """Random seed of the run."""

    def __post_init__(self) -> None:
        """Check every value."""
        typed_fields(self)
        for name in ("steps", "batch_size"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "be at least 1")
        expect(self.lr > 0, "lr", self.lr, "be greater than 0")
        expect(self.weight_decay >= 0, "weight_decay", self.weight_decay, "be at least 0")
        good = self.channels >= 8 and self.channels % 8 == 0
        expect(good, "channels", self.channels, "be a multiple of 8")
