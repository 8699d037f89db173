"""Which examples are trained on and validated with, and where they are."""

from __future__ import annotations

from pathlib import Path

from sgflux.settings.checks import expect_defaults, settings
from sgflux.settings.flat import Input
from sgflux.settings.shared import (
    AspectBuckets,
    ImagesDir,
    LatentCacheDir,
    TextCache,
    VocabularyFile,
)


@settings
class DataSettings:
    """Which examples are trained on and validated with, and where they are."""

    train_jsonl: Input[Path]
    """Training examples as a JSONL file, one JSON object a line."""
    val_jsonl: Input[Path | None] = None
    """Validation examples as a JSONL file, which must show other pictures than the training
    examples. Without it, only --select-by obeyed chooses a best checkpoint."""
    images_dir: ImagesDir = None
    vocabulary: VocabularyFile = None
    latent_cache_dir: LatentCacheDir = None
    text_cache: TextCache = "bf16"
    aspect_buckets: AspectBuckets = False

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if self.latent_cache_dir is None:
            expect_defaults(self, "without latent_cache_dir", "text_cache")

    def images_root(self, jsonl: Path) -> Path:
        """Folder to which the image paths in a file are relative."""
        return jsonl.parent if self.images_dir is None else self.images_dir

    @property
    def files(self) -> tuple[Path, ...]:
        """The training file and, where there is one, the validation file."""
        return (self.train_jsonl, *(() if self.val_jsonl is None else (self.val_jsonl,)))
