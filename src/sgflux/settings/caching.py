"""Settings of ``sgflux cache``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sgflux.errors import SgfluxError
from sgflux.settings.checks import expect_least
from sgflux.settings.compute import ComputeSettings
from sgflux.settings.conditions import PromptKind, PromptMix
from sgflux.settings.data import DataSettings
from sgflux.settings.flags import Files
from sgflux.settings.flat import Group, flat_hints
from sgflux.settings.losses import NegativeMix, WordsSettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.shared import (
    AspectBuckets,
    ImagesDir,
    MaxSequenceLength,
    TextCache,
    VocabularyFile,
)


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Fill a cache; where a training run has the same settings, they must have its values."""

    jsonl: Files
    """JSONL files whose pictures and texts are encoded."""
    latent_cache_dir: Path
    """Folder that keeps the encoded pictures and texts. Training reads them with the same
    --latent-cache-dir."""
    images_dir: ImagesDir = None
    vocabulary: VocabularyFile = None
    text_cache: TextCache = "bf16"
    aspect_buckets: AspectBuckets = False
    max_sequence_length: MaxSequenceLength = None
    prompts: tuple[PromptKind, ...] = ("neutral", "relational")
    """Kinds of prompts to encode: those of the run's prompt mix, and 'relational' for a run with
    distillation from text."""
    negatives: tuple[
        Literal[
            "role_swap",
            "inverse",
            "predicate",
            "hard_predicate",
            "object",
            "edge_drop",
            "moved_twin",
        ],
        ...,
    ] = ()
    """Kinds of negative graphs of a run with a ranking loss, whose statements are encoded, too.
    Such a run uses 'role_swap' and 'predicate' unless its settings name others."""
    val_examples: int = 64
    """Number of validation examples that the run measures; 0 means all."""
    seed: int = 0
    """Random seed of the run, which decides the negative graphs of its validations."""
    num_shards: int = 1
    """Number of parts into which the work is divided. Each part is encoded by a command of its own,
    on any machine that sees the folder."""
    shard: int = 0
    """Number of the part that this command encodes, counted from 0."""
    verify: bool = False
    """Read the whole cache first and set damaged shards aside. FILEs are then optional, and what
    they lack is encoded again."""

    pictures: Group[PictureSettings] = field(default_factory=PictureSettings)
    """Picture size."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""
    compute: Group[ComputeSettings] = field(default_factory=ComputeSettings)
    """Device and precision."""

    def __post_init__(self) -> None:
        """Check the division of the work, and what a training run would check, too."""
        expect_least(self, 1, "max_sequence_length")
        expect_least(self, 0, "val_examples", "seed")
        if not 0 <= self.shard < self.num_shards:
            raise SgfluxError(
                f"shard must lie between 0 and num_shards - 1, got shard {self.shard} and "
                f"num_shards {self.num_shards}"
            )

    def data(self, path: Path) -> DataSettings:
        """One of the files as that of a training run."""
        return DataSettings(
            train_jsonl=path,
            images_dir=self.images_dir,
            vocabulary=self.vocabulary,
            latent_cache_dir=self.latent_cache_dir,
            text_cache=self.text_cache,
            aspect_buckets=self.aspect_buckets,
        )


def cache_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """The cache's settings that serve a training with these settings, as far as they name any.

    Args:
        training: Settings of a training as :func:`sgflux.settings.training.read_settings` reads
            them from a file.
    """
    losses: Mapping[str, Any] = training.get("losses", {})
    texts: dict[PromptKind, None] = dict.fromkeys(
        PromptMix(**training.get("prompt_mix", {})).kinds()
    )
    if losses.get("lambda_words", WordsSettings.lambda_words):
        texts["relational"] = None  # what the base is told as a teacher
    found: dict[str, Any] = {"prompts": tuple(texts)}
    if losses.get("lambda_rel_rank"):
        weights = NegativeMix(**losses.get("negatives", {})).weights()
        found["negatives"] = tuple(kind for kind, weight in weights.items() if weight > 0)
    shared = flat_hints(CacheConfig).keys() & training.keys()
    return {name: training[name] for name in shared if training[name] is not None} | found
