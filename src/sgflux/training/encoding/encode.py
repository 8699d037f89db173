"""The data of a run is encoded once, before the model is loaded.

The encoders are in memory only while they are needed: FLUX's text encoder alone takes ten
gigabytes. Where a cache has everything, they are not loaded at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from sgflux.bases.family import Facts
from sgflux.data.buckets import Size, bucket_sizes
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.cache.encoding import ALL, EncodingPlan, Share
from sgflux.data.cache.store import CacheStore
from sgflux.data.cache.text_formats import packed_bytes
from sgflux.data.examples import SceneExample
from sgflux.data.prompts import PromptKind, contradicting_prompt, prompt_for
from sgflux.data.seen_rows import row_digests
from sgflux.errors import SgfluxError, located
from sgflux.files.writing import expect_room
from sgflux.graphs.predicates import PredicateVocabulary, vocabulary_of
from sgflux.models.name_features import NameFeatures
from sgflux.settings.conditions import PromptMix
from sgflux.settings.data import DataSettings
from sgflux.settings.pictures import PictureSettings
from sgflux.training.batches.batch import LatentScale
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.processes.processes import Processes
from sgflux.training.terms.term import Needs

_SPLITS = ("training", "validation")


@dataclass(frozen=True)
class Encoded:
    """The data as the model reads it.

    Attributes:
        train: Encoded training set.
        val: Encoded validation set; None without one.
        names: Features of every object's and predicate's name.
        latent_scale: Shift and scale of the autoencoder.
        text_tokens: Number of tokens of a prompt.
        image_tokens: Number of tokens of a picture; with aspect buckets, of the largest one.
        patch: Pixels on a side of a token.
        autoencoder_identity: Name that changes with the autoencoder.
        content: Split -> digest of its rows and the bytes of their pictures.
        seen: Split -> digests of each of its rows and pictures, as ``row_digests`` has them.
        concept_text: Features of the empty text, (1, ...) each, for concepts, which must not be
            told what to find; None without concepts.
    """

    train: TrainingArrays
    val: TrainingArrays | None
    names: NameFeatures
    latent_scale: LatentScale
    text_tokens: int
    image_tokens: int
    patch: int
    autoencoder_identity: str
    content: dict[str, str]
    seen: dict[str, dict[str, np.ndarray]]
    concept_text: Mapping[str, Tensor] | None


@dataclass(frozen=True)
class PlannedEncoding:
    """Plan of what is encoded, made from all pictures before any encoder is loaded.

    Attributes:
        encoders: The run's encoders.
        plans: Plans for the training set and, where there is one, the validation set.
        image_tokens: Image tokens of a picture; with aspect buckets, of the largest one.
    """

    encoders: LazyEncoders
    plans: Sequence[EncodingPlan]
    image_tokens: int

    @property
    def content(self) -> dict[str, str]:
        """Split -> digest of its rows and the bytes of their pictures."""
        return {name: plan.content for name, plan in zip(_SPLITS, self.plans, strict=False)}

    @property
    def seen(self) -> dict[str, dict[str, np.ndarray]]:
        """Split -> digests of each of its rows and pictures: of the bytes that are encoded."""
        return {
            name: row_digests(plan.examples, plan.files)
            for name, plan in zip(_SPLITS, self.plans, strict=False)
        }

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The size of each training picture, with aspect buckets; else empty."""
        return self.plans[0].sizes

    def is_shown_as(self, crop: object) -> bool:
        """Whether every picture is shown as this crop shows it, whatever the run's own is."""
        return all(one.crop == crop for plan in self.plans for one in plan.pictures.values())


def plan_encoding(
    splits: Splits,
    encoders: LazyEncoders,
    *,
    data: DataSettings,
    pictures: PictureSettings,
    texts: PromptMix,
) -> PlannedEncoding:
    """Look at all pictures of a run.

    Args:
        splits: Data of the run.
        encoders: Encoders of the run.
        data: Files of the run.
        pictures: Settings of the pictures, with both sides of their size.
        texts: Kinds of text that go with the examples.

    Raises:
        SgfluxError: if the model is not on this machine, the size does not fit it, or a picture
            cannot be read.
    """
    # Without a cache nothing is looked up by its key.
    cached = data.latent_cache_dir is not None
    of_pictures = encoders.picture_identity if cached else ""
    of_texts = encoders.text_identity if cached else ""
    size, patch = pictures.size, encoders.facts.patch
    check_size(size, patch=patch, model=encoders.source.name)
    buckets = bucket_sizes(*size, multiple=patch) if data.aspect_buckets else None
    plans = []
    for jsonl, examples in zip(data.files, (splits.train, splits.val), strict=False):
        with located(jsonl):
            plan = EncodingPlan(
                examples,
                images_dir=data.images_root(jsonl),
                height=size[0],
                width=size[1],
                crop=pictures.crop,
                encoder_identity=of_pictures,
                text_identity=of_texts,
                max_sequence_length=encoders.facts.text_tokens,
                prompt=_prompts_of(texts, splits.needs, vocabulary_of(data.vocabulary)),
                buckets=buckets,
                text_format=data.text_cache,
            )
        plans.append(plan)
    return PlannedEncoding(
        encoders, plans, image_tokens=image_tokens_of(plans[0].sizes or [size], patch=patch)
    )


def encode(
    planned: PlannedEncoding,
    *,
    names: Sequence[str],
    concepts: bool,
    latent_cache_dir: Path | None,
    processes: Processes,
    say: Say,
) -> Encoded:
    """Encode everything once, or find it in the cache: encoders are loaded for what is missing.

    Args:
        planned: Result of :func:`plan_encoding`.
        names: Names and statements whose features are looked up.
        concepts: Encode what saliency needs, too.
        latent_cache_dir: Folder of the cache; None: everything is kept in memory.
        processes: Processes that share the work.
        say: Function that shows a line to the user.

    Raises:
        SgfluxError: if a model or picture cannot be read.
    """
    encoders, plans = planned.encoders, planned.plans
    for split, plan in zip(_SPLITS, plans, strict=False):
        if (line := plan.shape_line()) is not None:
            say(f"{split}: {line}")
    facts = encoders.facts
    bar = processes.is_main and sys.stderr.isatty()
    store = None if latent_cache_dir is None else CacheStore(latent_cache_dir)
    features = NameFeatures(facts.text_dim)
    if store is None:
        arrays = [plan.in_memory(encoders.callables(), progress=bar) for plan in plans]
        if names:
            features.add(names, encoders.text.encode_names(names))
    else:
        fill(store, plans, encoders, names=names, processes=processes, progress=bar)
        arrays = [plan.opened(store) for plan in plans]
        if names:
            features.add(names, encoders.name_features(names, store))
    concept_text = encoders.text.encode([""]) if concepts else None
    train, val = arrays[0], arrays[1] if len(arrays) > 1 else None
    say(
        f"encoded {len(train)} training and {0 if val is None else len(val)} validation examples: "
        f"{len(train.latents)} training pictures, {len(train.prompts)} texts, "
        f"{len(names)} names" + ("" if encoders.loaded else "; all of it was in the cache")
    )
    return Encoded(
        train=train,
        val=val,
        names=features,
        latent_scale=LatentScale(shift=facts.latent_shift, scale=facts.latent_scale),
        text_tokens=facts.text_tokens,
        image_tokens=planned.image_tokens,
        patch=facts.patch,
        autoencoder_identity=encoders.picture_identity,
        content=planned.content,
        seen=planned.seen,
        concept_text=concept_text,
    )


def fill(
    store: CacheStore,
    plans: Sequence[EncodingPlan],
    encoders: LazyEncoders,
    *,
    names: Sequence[str],
    processes: Processes,
    share: Share = ALL,
    progress: bool,
) -> int:
    """Encode what the store lacks, each process its part; returns how many entries this one did.

    Args:
        store: The cache.
        plans: Plans of the data sets.
        encoders: Encoders, which are loaded if something is missing.
        names: Names whose features are kept as well, by the process with the first part.
        processes: Processes of this run.
        share: Part of this run, where several runs divide the work.
        progress: Whether bars are shown on stderr.
    """
    mine = Share(
        index=share.index * processes.count + processes.index,
        count=share.count * processes.count,
    )
    _expect_room(store, plans, encoders.facts)
    done = 0
    for plan in plans:
        done += plan.fill(store, encoders.callables(), share=mine, progress=progress)
    if names and mine.index == 0:
        done += encoders.missing_names(names, store)
        encoders.name_features(names, store)
    processes.wait()
    store.refresh()
    return done


def _expect_room(store: CacheStore, plans: Sequence[EncodingPlan], facts: Facts) -> None:
    """Check that the cache's disk has room for what the cache lacks."""
    pictures = {
        key: plan.pictures[key].size for plan in plans for key in store.missing(list(plan.pictures))
    }
    prompts = {key for plan in plans for key in store.missing(list(plan.prompts))}
    values = sum(
        (height // facts.downsample) * (width // facts.downsample)
        for height, width in pictures.values()
    )
    # Means and standard deviations of all channels in bf16, and features of every token.
    text = packed_bytes(facts.text_tokens, facts.text_dim, form=plans[0].text_format)
    needed = 2 * 2 * facts.channels * values + len(prompts) * text
    expect_room(
        store.root, needed, f"{len(pictures):,} encoded pictures and {len(prompts):,} texts"
    )


def check_size(size: Size, *, patch: int, model: str) -> None:
    """Check that the pictures are a whole number of image tokens high and wide.

    Args:
        size: Height and width in pixels.
        patch: Pixels a side of an image token.
        model: Name of the model, for the message.

    Raises:
        SgfluxError: naming both sides.
    """
    height, width = size
    if height % patch or width % patch:
        raise SgfluxError(
            f"height and width must be multiples of {patch} for {model!r}, got {height} and {width}"
        )


def image_tokens_of(sizes: Collection[Size], *, patch: int) -> int:
    """Number of image tokens of the largest picture, whose tokens are ``patch`` pixels a side."""
    return max((height // patch) * (width // patch) for height, width in sizes)


def _prompts_of(
    texts: PromptMix, needs: Sequence[Needs], vocabulary: PredicateVocabulary
) -> Callable[[SceneExample, PromptKind], str]:
    """Texts by kind; a kind that is never asked for costs no encoding, it gets one that exists."""
    kinds: set[PromptKind] = {*texts.kinds()}
    if any(need.captions for need in needs):
        kinds.add("relational")
    if "contradicting" in kinds:
        kinds.add("neutral")  # of examples that are shown without their graphs

    def prompt(example: SceneExample, kind: PromptKind) -> str:
        used = kind if kind in kinds else texts.heaviest
        if used == "contradicting":
            return contradicting_prompt(example.graph, vocabulary)
        return prompt_for(example, used)

    return prompt
