"""Before the model is loaded: read the data, and encode it once.

The encoders are in memory only while they are needed: FLUX's text encoder alone is ten gigabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sgflux.config import PromptMix, TrainConfig
from sgflux.data.cache import CacheStore, TrainingArrays, prepare_training_arrays
from sgflux.data.examples import PromptKind, SceneExample, prompt_for, resolve_image
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import CGIP_PREDICATES
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.backbone import (
    Autoencoder,
    TextEncoders,
    load_autoencoder,
    load_text_encoders,
)
from sgflux.models.graph_encoder import NameFeatures, graph_names
from sgflux.models.relation_classifier import WEIGHTS_FILE
from sgflux.training.batches import LatentScale
from sgflux.training.build_terms import TermSources, read_sources
from sgflux.training.encoder import readable_examples
from sgflux.training.processes import Processes
from sgflux.training.validation import ValidationItem, choose_items

Say = Callable[[str], None]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


# --- the data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Splits:
    """The two data sets, as read.

    Attributes:
        train: the training examples.
        items: the validation examples that are judged, with their negatives.
        val: the examples that the items are rows of.
        digests: split -> SHA-256 of its JSONL; also of a classifier's weights.
        terms: what the further loss terms need.
    """

    train: Sequence[SceneExample]
    val: Sequence[SceneExample]
    items: Sequence[ValidationItem]
    digests: dict[str, str]
    terms: TermSources

    def names(self) -> list[str]:
        """Every object's and predicate's name that a graph of the run may have."""
        graphs: list[SceneGraph] = [example.graph for example in self.train]
        for item in self.items:
            graphs.append(item.graph)
            if item.negative is not None:
                graphs.append(item.negative.graph)
        return list(dict.fromkeys([*graph_names(graphs), *self.terms.names()]))


def read_splits(config: TrainConfig, *, say: Say) -> Splits:
    """Read both files and choose what validation judges.

    Raises:
        SgfluxError: on a bad file, or if validation has nothing to select the best checkpoint by.
    """
    train = readable_examples(config, config.train_jsonl, say=say)
    digests = {"training": _digest(config.train_jsonl)}
    val: list[SceneExample] = []
    items: list[ValidationItem] = []
    if config.val_jsonl is not None:
        rows = readable_examples(config, config.val_jsonl, say=say)
        words = [p for row in train for _, p, _ in row.graph.relationships]
        if config.encoder_kind == "cgip" and len(set(words)) == 1:
            words = list(CGIP_PREDICATES)  # the other predicate of a negative must be readable
        digests["validation"] = _digest(config.val_jsonl)
        chosen = choose_items(
            rows,
            count=config.val_examples,
            predicates=words,
            seed=config.seed,
        )
        # Only these are encoded.
        val = [rows[item.row] for item in chosen]
        items = [
            ValidationItem(row=place, graph=item.graph, negative=item.negative)
            for place, item in enumerate(chosen)
        ]
        _check_validation(config, train, val, items, say=say)
    terms = read_sources(config, train)
    if config.losses.classifier is not None:
        digests["classifier"] = _digest(config.losses.classifier / WEIGHTS_FILE)
    if terms.sampler is not None and terms.sampler.without:
        say(
            f"{terms.sampler.without} of {len(train)} training examples have no negative graph "
            "and are left out of the ranking loss"
        )
    return Splits(train=train, val=val, items=items, digests=digests, terms=terms)


def _check_validation(
    config: TrainConfig,
    train: Sequence[SceneExample],
    val: Sequence[SceneExample],
    items: Sequence[ValidationItem],
    *,
    say: Say,
) -> None:
    lonely = sum(item.negative is None for item in items)
    if lonely == len(items) and config.select_by == "ranking_accuracy":
        raise SgfluxError(
            f"{config.val_jsonl}: select_by is 'ranking_accuracy', but no example has a negative "
            "graph to be ranked against; use 'val_loss'"
        )
    if lonely:
        say(f"{lonely} of {len(items)} validation examples have no negative graph")
    roots = [images_root(config, path) for path in (config.train_jsonl, config.val_jsonl) if path]
    seen = {resolve_image(example, roots[0]) for example in train}
    shared = sum(resolve_image(example, roots[1]) in seen for example in val)
    if shared:
        say(
            f"warning: {shared} of {len(val)} validation pictures are training pictures as well; "
            "what is selected on them is selected for remembering"
        )


def images_root(config: TrainConfig, jsonl: Path) -> Path:
    """Where the pictures of a file are."""
    return jsonl.parent if config.images_dir is None else config.images_dir


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- encoding -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """The data as the model reads it.

    Attributes:
        train: encoded training set.
        val: encoded validation set, or None.
        names: features of every object's and predicate's name.
        latent_scale: of the autoencoder.
        text_tokens: tokens a prompt.
        image_tokens: tokens a picture.
        image_grid: their rows and columns.
        autoencoder_identity: changes with the autoencoder.
        concept_pooled: pooled features of the empty text, (1, D_clip), for concepts that must not
            be told what to find; None where there are no concepts.
    """

    train: TrainingArrays
    val: TrainingArrays | None
    names: NameFeatures
    latent_scale: LatentScale
    text_tokens: int
    image_tokens: int
    image_grid: tuple[int, int]
    autoencoder_identity: str
    concept_pooled: Tensor | None


def encode(config: TrainConfig, splits: Splits, *, processes: Processes, say: Say) -> Encoded:
    """Load the encoders, encode everything once, and let go of them.

    Raises:
        SgfluxError: if a model or picture cannot be read, or the size does not fit the model.
    """
    text = load_text_encoders(
        config.parts_id,
        revision=config.revision,
        dtype=DTYPES[config.dtype],
        device=processes.device,
        max_sequence_length=config.max_sequence_length,
        allow_download=config.allow_download,
    )
    # In float32 whatever the rest is in: it is small, runs once, and every step builds on it.
    pictures = load_autoencoder(
        config.parts_id,
        revision=config.revision,
        device=processes.device,
        allow_download=config.allow_download,
    )
    image_tokens = image_tokens_of(config, downsample=pictures.downsample)
    # With a cache the main process fills it, and the others find everything in it.
    turn = contextlib.nullcontext() if config.latent_cache_dir is None else processes.main_first()
    bar = processes.is_main and sys.stderr.isatty()
    with turn:
        arrays = [
            _encode_split(config, path, rows, text=text, pictures=pictures, bar=bar)
            for path, rows in ((config.train_jsonl, splits.train), (config.val_jsonl, splits.val))
            if path is not None
        ]
    concept_pooled = None
    if config.losses.reads_saliency:
        concept_pooled = text.encode([""]).pooled_projections
    # The cgip encoder has embeddings of its own; concepts and classifiers read names all the same.
    reads_names = config.encoder_kind == "native" or not config.losses.is_off
    names = splits.names() if reads_names else []
    features = NameFeatures(text.text_encoder_2.config.d_model)
    if names:
        features.add(names, text.encode_names(names))
    train = arrays[0]
    say(
        f"encoded {len(train)} training and {len(splits.val)} validation examples: "
        f"{len(train.latent_mean)} training pictures, {len(train.prompts)} texts, "
        f"{len(names)} names"
    )
    return Encoded(
        train=train,
        val=arrays[1] if len(arrays) > 1 else None,
        names=features,
        latent_scale=LatentScale(
            shift=pictures.vae.config.shift_factor, scale=pictures.vae.config.scaling_factor
        ),
        text_tokens=text.max_sequence_length,
        image_tokens=image_tokens,
        image_grid=(
            config.height // (2 * pictures.downsample),
            config.width // (2 * pictures.downsample),
        ),
        autoencoder_identity=_identity(pictures.vae),
        concept_pooled=concept_pooled,
    )


def image_tokens_of(config: TrainConfig, *, downsample: int) -> int:
    """Image tokens a sample has behind an autoencoder that makes pictures so much smaller.

    Raises:
        SgfluxError: if the size of the pictures does not come out even.
    """
    patch = 2 * downsample
    if config.height % patch or config.width % patch:
        raise SgfluxError(
            f"height and width must be multiples of {patch} for {config.model_id!r}, "
            f"got {config.height} and {config.width}"
        )
    return (config.height // patch) * (config.width // patch)


def _encode_split(
    config: TrainConfig,
    jsonl: Path,
    examples: Sequence[SceneExample],
    *,
    text: TextEncoders,
    pictures: Autoencoder,
    bar: bool,
) -> TrainingArrays:
    where = config.latent_cache_dir
    return prepare_training_arrays(
        examples,
        images_dir=images_root(config, jsonl),
        height=config.height,
        width=config.width,
        crop=config.crop,
        store=None if where is None else CacheStore(where),
        encode_images=pictures.posterior,
        encode_text=text.encode,
        encoder_identity=_identity(pictures.vae),
        text_identity=_identity(text.text_encoder, text.text_encoder_2),
        max_sequence_length=text.max_sequence_length,
        progress=bar,
        prompt=_prompts_of(config.texts),
    )


def _prompts_of(mix: PromptMix) -> Callable[[SceneExample, PromptKind], str]:
    """Texts by kind; a kind that is never drawn costs no encoding, it gets a text that exists."""
    kinds = mix.kinds()

    def prompt(example: SceneExample, kind: PromptKind) -> str:
        return prompt_for(example, kind if kind in kinds else mix.heaviest)

    return prompt


def _identity(*modules: nn.Module) -> str:
    """What identifies encoders in a cache: the names, shapes and some values of all weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in module.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()
