"""``sgflux cache``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgflux.commands.command import Command, Files
from sgflux.errors import SgfluxError
from sgflux.settings.checks import expect_least
from sgflux.settings.compute import ComputeSettings
from sgflux.settings.conditions import PromptKind
from sgflux.settings.data import DataSettings
from sgflux.settings.flat import Group
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.shared import AspectBuckets, ImagesDir, MaxSequenceLength, VocabularyFile
from sgflux.terminal.quiet import hide_loading_bars


@dataclass(frozen=True, kw_only=True)
class CacheFlags:
    """Flags of ``sgflux cache``; where a training run has the same, they must have its values."""

    jsonl: Files
    """JSONL files whose pictures and texts are encoded."""
    latent_cache_dir: Path
    """Folder that keeps the encoded pictures and texts. Training reads them with the same
    --latent-cache-dir."""
    images_dir: ImagesDir = None
    vocabulary: VocabularyFile = None
    aspect_buckets: AspectBuckets = False
    max_sequence_length: MaxSequenceLength = None
    prompts: tuple[PromptKind, ...] = ("neutral", "relational")
    """Kinds of prompts to encode: those of the run's prompt mix, and 'relational' for a run with
    distillation from text."""
    negatives: tuple[
        Literal["role_swap", "inverse", "predicate", "hard_predicate", "object", "edge_drop"], ...
    ] = ()
    """Kinds of corrupted graphs of a run with a ranking loss, whose statements are encoded, too.
    Such a run uses 'role_swap' and 'predicate' unless its settings name others."""
    val_examples: int = 64
    """Number of validation examples that the run measures; 0 means all."""
    seed: int = 0
    """Random seed of the run, which decides the corrupted graphs of its validations."""
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
            aspect_buckets=self.aspect_buckets,
        )


def run(command: Command, arguments: Sequence[str]) -> int:
    """Fill a cache with what a training run over these files would encode, or check it."""
    flags = command.parse(CacheFlags, arguments)
    if not flags.verify:
        command.expect_files(flags.jsonl)
    from sgflux.data.cache.encoding import Share
    from sgflux.training.encoding.caching import fill_from_files, verify_cache
    from sgflux.training.processes.launcher import check_launcher
    from sgflux.training.processes.processes import Processes

    if not flags.jsonl:
        return min(verify_cache(flags.latent_cache_dir, rebuilds=False), 1)
    check_launcher(dtype=flags.compute.dtype)
    processes = Processes.start(flags.compute.device)
    # Several may fill one cache together, each with a part of its own.
    part = "" if flags.num_shards == 1 else f"part{flags.shard}of{flags.num_shards}"
    with processes.hold(flags.latent_cache_dir, command=command.prog, part=part):
        if flags.verify and processes.is_main:
            verify_cache(flags.latent_cache_dir, rebuilds=True)
        processes.wait()  # nobody reads a shard that is being set aside
        hide_loading_bars()
        for line in fill_from_files(
            [flags.data(path) for path in flags.jsonl],
            cache=flags.latent_cache_dir,
            kinds=flags.prompts,
            negatives=flags.negatives,
            model=flags.model.named(),
            pictures=flags.pictures,
            dtype=flags.compute.dtype,
            max_sequence_length=flags.max_sequence_length,
            val_examples=flags.val_examples,
            seed=flags.seed,
            share=Share(index=flags.shard, count=flags.num_shards),
            processes=processes,
        ):
            if processes.is_main:
                print(line, flush=True)
    return 0


COMMAND = Command(
    words=("cache",),
    purpose="Encode pictures and texts once, before training",
    example="sgflux cache train.jsonl validation.jsonl --latent-cache-dir runs/cache",
    run=run,
)
