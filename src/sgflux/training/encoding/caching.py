"""Filling a cache before any training run, in parts if need be, and checking one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sgflux.data.buckets import bucket_lines
from sgflux.data.cache.encoding import Share
from sgflux.data.cache.store import CacheStore
from sgflux.graphs.predicates import vocabulary_of
from sgflux.settings.caching import CacheConfig
from sgflux.settings.conditions import PromptMix
from sgflux.settings.graph_encoder import GraphEncoderSettings
from sgflux.settings.losses import LossSettings, NegativeMix
from sgflux.training.encoding.encode import fill, plan_encoding
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.size import with_size
from sgflux.training.encoding.splits import read_splits, with_terms
from sgflux.training.planning.precheck import check_inputs
from sgflux.training.processes.processes import Processes
from sgflux.training.validation import choose_items


def fill_from_files(config: CacheConfig, *, processes: Processes) -> Iterator[str]:
    """Encode what a training run over these files would, as far as the cache lacks it.

    Args:
        config: Settings of the cache; each of its files is taken for a training file.
        processes: Processes that share this part of the work.

    Yields:
        What was done with each file, for a person.

    Raises:
        SgfluxError: on a bad file, picture, model or setting.
    """
    texts = PromptMix(**({"neutral": 0.0} | dict.fromkeys(config.prompts, 1.0)))
    losses = LossSettings.from_flat(lambda_words=0)  # the kinds of text are given
    if config.negatives:
        losses = LossSettings.from_flat(
            lambda_words=0,
            lambda_rel_rank=1.0,
            negatives=NegativeMix(
                **dict.fromkeys(NegativeMix().weights(), 0.0) | dict.fromkeys(config.negatives, 1.0)
            ),
        )
    native, model, seed = GraphEncoderSettings(), config.model.named(), config.seed
    share = Share(index=config.shard, count=config.num_shards)
    files = [config.data(path) for path in config.jsonl]
    read = []
    for data in files:
        splits = read_splits(
            data, encoder=native, val_examples=config.val_examples, seed=seed, say=_say_nothing
        )
        read.append(
            with_terms(splits, losses, seed=seed, vocabulary=data.vocabulary, say=_say_nothing)
        )
    said_size: list[str] = []
    with processes.main_first():
        pictures = with_size(config.pictures, model, say=said_size.append)
    yield from said_size
    # What a validation on any of the files would compare with.
    said = [p for splits in read for row in splits.train for _, p, _ in row.graph.relationships]
    store = CacheStore(config.latent_cache_dir)
    for data, splits in zip(files, read, strict=True):
        encoders = LazyEncoders(
            model,
            device=processes.device,
            dtype=config.compute.dtype,
            max_sequence_length=config.max_sequence_length,
        )
        plans = plan_encoding(splits, encoders, data=data, pictures=pictures, texts=texts).plans
        items = choose_items(
            splits.train,
            count=config.val_examples,
            predicates=said,
            seed=seed,
            vocabulary=vocabulary_of(data.vocabulary),
        )
        names = replace(splits, items=items).names(native.kind)
        check_inputs(
            splits,
            names,
            data=data,
            model=model,
            pictures=pictures,
            max_sequence_length=config.max_sequence_length,
            processes=processes,
            needs_transformer=False,
        )
        done = fill(
            store,
            plans,
            encoders,
            names=names,
            processes=processes,
            share=share,
            progress=processes.is_main and sys.stderr.isatty(),
        )
        total = sum(processes.gather([done]))
        missing = sum(plan.missing(store) for plan in plans)
        missing += encoders.missing_names(names, store)
        count = sum(len(plan.pictures) for plan in plans)
        prompts = sum(len(plan.prompts) for plan in plans)
        part = "" if share.count == 1 else f", as part {share.index} of {share.count}"
        rest = f"; {missing:,} are left to other parts" if missing else ""
        yield (
            f"{data.train_jsonl}: {len(splits.train):,} examples with {count:,} pictures, "
            f"{prompts:,} texts and {len(names):,} names; {total:,} encoded now{part}{rest}"
        )
        for line in bucket_lines(plans[0].sizes):
            yield f"bucket:     {line}"


def _say_nothing(text: str) -> None:
    """Take a message that is meant for a training log."""


def verify_cache(folder: Path, *, rebuilds: bool) -> int:
    """Read every shard, name the damaged ones and set them aside; returns how many there are.

    Args:
        folder: Folder of the cache.
        rebuilds: Whether the damaged entries are about to be encoded again.
    """
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
