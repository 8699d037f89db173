"""Which examples are trained on and validated with, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgflux.settings.checks import typed_fields


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which examples are trained on and validated with, and where they are."""

    train_jsonl: Path
    """Training examples, one JSON object a line."""
    val_jsonl: Path | None = None
    """Validation examples, disjoint by image; without them no best checkpoint is chosen."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    latent_cache_dir: Path | None = None
    """Folder that keeps latents and text features between runs; None: keep them in memory."""
    aspect_buckets: bool = False
    """Give every picture the size of the nearest ratio among several of about the area height x
    width, with ratios up to 2:1, so that less of it is cut off; each batch has one size."""

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
