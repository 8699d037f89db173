"""Settings of ``sgflux train-classifier``."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from sgflux.settings.checks import (
    Count,
    Must,
    NotNegative,
    Positive,
    expect_defaults,
    from_flat,
    settings,
)
from sgflux.settings.compute import ComputeSettings
from sgflux.settings.data import DataSettings
from sgflux.settings.flat import Group, Input
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.shared import ImagesDir, LatentCacheDir, MaxSteps, OutputDir, TextCache

_WIDTH = Must("be a multiple of 8", lambda value: value >= 8 and value % 8 == 0)

ClassifierKind = Literal["latent", "saliency"]
"""What a classifier of relations reads: a picture's latents, or the model's concept maps."""


@settings
class ClassifierConfig:
    """Train a classifier of relations, for the rankers 'latent' and 'saliency'."""

    train_jsonl: Input[Path]
    """Training examples as a JSONL file, one JSON object a line."""
    val_jsonl: Input[Path]
    """Held-out examples as a JSONL file, on which the classifier is measured. They must show other
    pictures than the training examples."""
    images_dir: ImagesDir = None
    latent_cache_dir: LatentCacheDir = None
    text_cache: TextCache = "bf16"
    output_dir: OutputDir
    """Folder of the classifier. It must be new or empty."""
    kind: ClassifierKind = "latent"
    """Input of the classifier: 'latent' is a picture's latents, 'saliency' is the model's saliency
    maps."""
    channels: Annotated[int, _WIDTH] = 96
    """Width of the classifier, a multiple of 8."""
    max_steps: MaxSteps = 2000
    """Number of training steps."""
    batch_size: Count = 64
    """Number of statements in a training step."""
    lr: Positive = 1e-3
    """Peak learning rate of AdamW, which rises for 5 % of the steps and falls as a cosine."""
    weight_decay: NotNegative = 0.05
    """Decoupled weight decay of AdamW."""
    seed: int = 0
    """Random seed of the training."""
    pictures: Group[PictureSettings] = field(default_factory=PictureSettings)
    """Picture size."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""
    compute: Group[ComputeSettings] = field(default_factory=ComputeSettings)
    """Device and precision."""

    def __post_init__(self) -> None:
        """Check that every value given has an effect, and name the base."""
        if self.latent_cache_dir is None:
            expect_defaults(self, "without latent_cache_dir", "text_cache")
        object.__setattr__(self, "model", self.model.named())

    @property
    def data(self) -> DataSettings:
        """The two files, and where their pictures are."""
        return DataSettings(
            train_jsonl=self.train_jsonl,
            val_jsonl=self.val_jsonl,
            images_dir=self.images_dir,
            latent_cache_dir=self.latent_cache_dir,
            text_cache=self.text_cache,
        )

    @classmethod
    def from_flat(cls, **settings: Any) -> ClassifierConfig:
        """Build from the settings of all groups side by side.

        Raises:
            ConfigError: on an unknown or missing setting, or as the constructors.
        """
        return from_flat(cls, settings)
