"""Which examples are trained on and validated with, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgflux.settings.checks import typed_fields
from sgflux.settings.shared import AspectBuckets, ImagesDir, LatentCacheDir, VocabularyFile


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which examples are trained on and validated with, and where they are."""

    train_jsonl: Path
    """Training examples as a JSONL file, one JSON object a line."""
    val_jsonl: Path | None = None
    """Validation examples as a JSONL file, which must show other pictures than the training
    examples. Without it no best checkpoint is chosen."""
    images_dir: ImagesDir = None
    vocabulary: VocabularyFile = None
    latent_cache_dir: LatentCacheDir = None
    aspect_buckets: AspectBuckets = False

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)

    def images_root(self, jsonl: Path) -> Path:
        """Folder to which the image paths in a file are relative."""
        return jsonl.parent if self.images_dir is None else self.images_dir

    @property
    def files(self) -> tuple[Path, ...]:
        """The training file and, where there is one, the validation file."""
        return (self.train_jsonl, *(() if self.val_jsonl is None else (self.val_jsonl,)))
