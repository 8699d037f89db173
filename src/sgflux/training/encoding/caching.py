"""Filling a cache before any training run, in parts if need be, and checking one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgflux.data.buckets import bucket_lines
from sgflux.data.cache.encoding import Share
from sgflux.data.cache.store import CacheStore
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import vocabulary_of
from sgflux.settings.conditions import PromptMix
from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.settings.training import TrainConfig
from sgflux.training.encoding.encode import fill, split_plans
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.size import with_size
from sgflux.training.encoding.splits import read_splits
from sgflux.training.planning.precheck import check_inputs
from sgflux.training.processes.processes import Processes
from sgflux.training.validation import choose_items


def fill_from_files(
    paths: Sequence[Path],
    *,
    kinds: Sequence[str],
    negatives: Sequence[str],
    settings: Mapping[str, Any],
    shard: int,
    num_shards: int,
    processes: Processes,
) -> Iterator[str]:
    """Encode what a training run over these files would, as far as the cache lacks it.

    Args:
        paths: Files of the run: the training set and, where it has one, the validation set.
        kinds: Kinds of text.
        negatives: Kinds of corrupted graph of a ranking loss, whose statements are encoded as well.
        settings: Settings of ``TrainConfig``; ``latent_cache_dir`` is the cache.
        shard: Number of this part of the work, from 0.
        num_shards: Number of parts.
        processes: Processes that share this part.

    Yields:
        What was done with each file, for a person.

    Raises:
        SgfluxError: on a bad file, picture, model or setting.
    """
    losses = LossSettings.from_flat(lambda_words=0)  # the kinds of text are said
    if negatives:
        losses = LossSettings.from_flat(
            lambda_words=0,
            lambda_rel_rank=1.0,
            negatives=NegativeMix(**_no_negatives() | dict.fromkeys(negatives, 1.0)),
        )
    configs = [
        TrainConfig.from_flat(
            train_jsonl=path,
            output_dir=settings["latent_cache_dir"],
            prompt_mix=PromptMix(**({"neutral": 0.0} | dict.fromkeys(kinds, 1.0))),
            losses=losses,
            **settings,
        )
        for path in paths
    ]
    read = [read_splits(config, say=_say_nothing) for config in configs]
    said_size: list[str] = []
    with processes.main_first():
        configs = [with_size(config, say=said_size.append) for config in configs]
    yield from said_size[:1]
    # What a validation on any of the files would compare with.
    said = [p for splits in read for row in splits.train for _, p, _ in row.graph.relationships]
    store = CacheStore(settings["latent_cache_dir"])
    for config, splits in zip(configs, read, strict=True):
        encoders = LazyEncoders(config, device=processes.device)
        plans = split_plans(config, splits, encoders)
        items = choose_items(
            splits.train,
            count=config.validation.val_examples,
            predicates=said,
            seed=config.run.seed,
            vocabulary=vocabulary_of(config.data.vocabulary),
        )
        names = replace(splits, items=items).names(config)
        check_inputs(config, splits, processes=processes, needs_transformer=False, names=names)
        done = fill(
            store,
            plans,
            encoders,
            names=names,
            processes=processes,
            share=Share(index=shard, count=num_shards),
            progress=processes.is_main and sys.stderr.isatty(),
        )
        total = sum(processes.gather([done]))
        missing = sum(plan.missing(store) for plan in plans)
        missing += encoders.missing_names(names, store)
        pictures = sum(len(plan.pictures) for plan in plans)
        prompts = sum(len(plan.prompts) for plan in plans)
        part = "" if num_shards == 1 else f", as part {shard} of {num_shards}"
        rest = f"; {missing:,} are left to other parts" if missing else ""
        yield (
            f"{config.data.train_jsonl}: {len(splits.train):,} examples with "
            f"{pictures:,} pictures, {prompts:,} texts and {len(names):,} names; "
            f"{total:,} encoded now{part}{rest}"
        )
        for line in bucket_lines(plans[0].sizes):
            yield f"bucket:     {line}"


def _no_negatives() -> dict[str, float]:
    return dict.fromkeys(NegativeMix().weights(), 0.0)


def _say_nothing(text: str) -> None:
    """Take a message that is meant for a training log."""


def verify_cache(folder: Path, *, rebuilds: bool) -> int:
    """Read every shard, name the damaged ones and set them aside; returns how many there are.

    Args:
        folder: Folder of the cache.
        rebuilds: Whether the damaged entries are about to be encoded again.

    Raises:
        SgfluxError: if there is no such folder.
    """
    if not folder.is_dir():
        raise SgfluxError(f"the cache {str(folder)!r} is no folder")
    store = CacheStore(folder)
    damaged = store.verify()
    store.set_damaged_aside()
    for shard in damaged:
        print(f"damaged: {shard}", file=sys.stderr)
    shards = "1 shard is" if len(damaged) == 1 else f"{len(damaged)} shards are"
    print(f"{folder}: {len(store):,} entries are intact, {shards} damaged")
    if damaged and not rebuilds:
        print(
            "what is damaged was set aside as *.damaged; run `sgflux cache` with the JSONL "
            "files, or train, and their entries are encoded again"
        )
    return len(damaged)
