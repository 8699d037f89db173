"""What training reads instead of pictures and prompts: posteriors and text features, once each.

The encoders are passed in as callables and are called only for what the store does not have. With
or without a store the values are the same: everything is rounded to bf16.

Shapes: N examples, U different pictures (file, crop, size), P different prompts; latents
(16, h, w); text of L tokens with D features, and D_pooled pooled ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from sgflux.data.examples import (
    PROMPT_KINDS,
    PromptKind,
    SceneExample,
    prompt_for,
    resolve_image,
)
from sgflux.data.images import (
    CROPS,
    Crop,
    decode_image,
    fit_image,
    image_digest,
    read_image_bytes,
    union_box,
)
from sgflux.data.progress import progress_bar
from sgflux.data.schema import Box
from sgflux.data.store import CacheStore, DamagedShard, ShardWriter
from sgflux.errors import SgfluxError

__all__ = [
    "CacheStore",
    "DamagedShard",
    "ShardWriter",
    "TextFeatures",
    "TrainingArrays",
    "latent_key",
    "prepare_training_arrays",
    "text_key",
]


class TextFeatures(Protocol):
    """What a text encoder gives for B prompts."""

    @property
    def encoder_hidden_states(self) -> Tensor:
        """(B, L, D)."""

    @property
    def pooled_projections(self) -> Tensor:
        """(B, D_pooled)."""


@dataclass(frozen=True, eq=False)
class TrainingArrays:
    """A data set, encoded.

    The tensors are bf16 on the CPU: :meth:`posterior` gives float32, as arithmetic needs it.

    Attributes:
        examples: the N examples.
        latent_mean: the posterior's mean, unscaled, (U, 16, h, w).
        latent_std: its standard deviation, (U, 16, h, w).
        image_index: each example's row in ``latent_*``, (N,) int64.
        prompts: the P different prompts.
        text_hidden: their features, (P, L, D).
        text_pooled: their pooled features, (P, D_pooled).
        prompt_index: each example's row in ``text_*`` by kind of prompt, in the order of
            ``PROMPT_KINDS`` (relational, neutral, empty), (N, 3) int64.
    """

    examples: tuple[SceneExample, ...]
    latent_mean: Tensor
    latent_std: Tensor
    image_index: Tensor
    prompts: tuple[str, ...]
    text_hidden: Tensor
    text_pooled: Tensor
    prompt_index: Tensor

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def posterior(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation for the examples ``rows`` (B,), (B, 16, h, w) float32."""
        index = self.image_index[rows]
        return self.latent_mean[index].float(), self.latent_std[index].float()

    def text(self, rows: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Text features of the examples ``rows`` (B,), each with its own kind of prompt.

        Args:
            rows: (B,) int64.
            kinds: (B,) int64, indices into ``PROMPT_KINDS``.

        Returns:
            (B, L, D) and (B, D_pooled), bf16.
        """
        index = self.prompt_index[rows, kinds]
        return self.text_hidden[index], self.text_pooled[index]


def latent_key(
    image_sha256: str, *, crop: Crop, box: Box | None, height: int, width: int, identity: str
) -> str:
    """The key of a picture's posterior: all that it depends on.

    Args:
        image_sha256: of the file's content.
        crop: how it is cut.
        box: the box of a union crop.
        height: of the fitted picture.
        width: of the fitted picture.
        identity: of the encoder and its precision.
    """
    where = None if box is None else [float(number) for number in box]
    return _key("latent", image_sha256, crop, where, height, width, identity)


def text_key(prompt: str, *, max_sequence_length: int, identity: str) -> str:
    """The key of a prompt's features: all that they depend on."""
    return _key("text", prompt, max_sequence_length, identity)


def prepare_training_arrays(
    examples: Iterable[SceneExample],
    *,
    images_dir: str | os.PathLike[str],
    height: int,
    width: int,
    crop: Crop = "none",
    store: CacheStore | None = None,
    encode_images: Callable[[Tensor], tuple[Tensor, Tensor]],
    encode_text: Callable[[list[str]], TextFeatures],
    encoder_identity: str,
    text_identity: str,
    max_sequence_length: int,
    batch_size: int = 16,
    progress: bool = False,
    prompt: Callable[[SceneExample, PromptKind], str] = prompt_for,
) -> TrainingArrays:
    """Encode every different picture and prompt once, or take it from the store.

    Args:
        examples: at least one.
        images_dir: the folder of the pictures.
        height: to which pictures are fitted.
        width: to which pictures are fitted.
        crop: how they are cut; ``union`` needs rows with boxes.
        store: where results are kept; what was encoded before an interruption is found again.
            None keeps nothing.
        encode_images: (B, 3, H, W) float32 in [-1, 1] on the CPU -> mean and std, (B, 16, h, w).
        encode_text: B prompts -> features of exactly ``max_sequence_length`` tokens.
        encoder_identity: changes whenever ``encode_images`` would give other values.
        text_identity: the same for ``encode_text``.
        max_sequence_length: tokens a prompt.
        batch_size: pictures or prompts an encoder gets at once.
        progress: show bars on stderr.
        prompt: the text of an example by kind.

    Raises:
        SgfluxError: if there is no example; naming the row and the picture that is missing,
            broken or without boxes; if an encoder gives values that are not finite.
    """
    rows = tuple(examples)
    if not rows:
        raise SgfluxError("there is no example to encode")
    if crop not in CROPS:
        raise SgfluxError(f"crop must be one of {list(CROPS)}, got {crop!r}")
    if batch_size < 1:
        raise SgfluxError(f"batch_size must be at least 1, got {batch_size}")

    pictures, picture_keys = _pictures(
        rows, Path(images_dir), crop=crop, height=height, width=width, identity=encoder_identity
    )
    prompts: dict[str, str] = {}
    prompt_keys = []
    for example in rows:
        for kind in PROMPT_KINDS:
            text = prompt(example, kind)
            key = text_key(text, max_sequence_length=max_sequence_length, identity=text_identity)
            prompts[key] = text
            prompt_keys.append(key)

    def encode_pictures(batch: Sequence[_Picture]) -> dict[str, Tensor]:
        images = torch.stack([picture.load(height, width, crop) for picture in batch])
        mean, std = encode_images(images)
        return {"mean": mean, "std": std}

    def encode_prompts(batch: Sequence[str]) -> dict[str, Tensor]:
        features = encode_text(list(batch))
        length = features.encoder_hidden_states.shape[1]
        if length != max_sequence_length:
            raise SgfluxError(
                f"the text encoder gave {length} tokens a prompt where max_sequence_length "
                f"is {max_sequence_length}"
            )
        return {"hidden": features.encoder_hidden_states, "pooled": features.pooled_projections}

    latents = _collect(
        pictures, encode_pictures, store=store, batch_size=batch_size, bar=progress, what="latents"
    )
    texts = _collect(
        prompts, encode_prompts, store=store, batch_size=batch_size, bar=progress, what="prompts"
    )
    return TrainingArrays(
        examples=rows,
        latent_mean=latents["mean"],
        latent_std=latents["std"],
        image_index=_positions(pictures, picture_keys),
        prompts=tuple(prompts.values()),
        text_hidden=texts["hidden"],
        text_pooled=texts["pooled"],
        prompt_index=_positions(prompts, prompt_keys).view(len(rows), len(PROMPT_KINDS)),
    )


@dataclass(frozen=True)
class _Picture:
    """A picture to encode, and the first row that asks for it."""

    path: Path
    sha256: str
    box: Box | None
    row: int

    def load(self, height: int, width: int, crop: Crop) -> Tensor:
        """(3, height, width) float32 in [-1, 1]."""
        try:
            data = read_image_bytes(self.path)
            if image_digest(data) != self.sha256:
                raise SgfluxError(f"the picture {str(self.path)!r} changes while it is cached")
            image = decode_image(data, name=self.path)
            return fit_image(image, height, width, crop=crop, box=self.box)
        except SgfluxError as error:
            raise SgfluxError(f"example {self.row}: {error}") from error

    def __str__(self) -> str:
        return str(self.path)


def _pictures(
    examples: Sequence[SceneExample],
    images_dir: Path,
    *,
    crop: Crop,
    height: int,
    width: int,
    identity: str,
) -> tuple[dict[str, _Picture], list[str]]:
    """The different pictures by key, and each example's key."""
    digests: dict[Path, str] = {}
    pictures: dict[str, _Picture] = {}
    keys = []
    for row, example in enumerate(examples):
        try:
            path = resolve_image(example, images_dir)
            if path not in digests:
                digests[path] = image_digest(read_image_bytes(path))
        except SgfluxError as error:
            raise SgfluxError(f"example {row}: {error}") from error
        box = None
        if crop == "union":
            if example.boxes is None:
                raise SgfluxError(
                    f"example {row} ({example.image_rel_path}) has no boxes, which the crop "
                    "'union' needs; use 'center' or 'none'"
                )
            box = union_box(example.boxes)
        key = latent_key(
            digests[path], crop=crop, box=box, height=height, width=width, identity=identity
        )
        pictures.setdefault(key, _Picture(path, digests[path], box, row))
        keys.append(key)
    return pictures, keys


_Item = TypeVar("_Item", _Picture, str)


def _collect(
    items: Mapping[str, _Item],
    encode: Callable[[Sequence[_Item]], dict[str, Tensor]],
    *,
    store: CacheStore | None,
    batch_size: int,
    bar: bool,
    what: str,
) -> dict[str, Tensor]:
    """The tensors of ``items`` in their order: from the store, else from ``encode``."""
    table = _Table(items)
    with (
        progress_bar(len(items), what, show=bar) as advance,
        contextlib.nullcontext() if store is None else store.writer() as writer,
    ):
        if store is not None:
            for keys, tensors in store.read(items):
                table.put(keys, tensors)
                advance(len(keys))
        missing = table.missing()
        for start in range(0, len(missing), batch_size):
            keys = missing[start : start + batch_size]
            batch = [items[key] for key in keys]
            with torch.no_grad():
                encoded = encode(batch)
            tensors = {name: _rounded(tensor, name, batch) for name, tensor in encoded.items()}
            table.put(keys, tensors)
            if writer is not None:
                writer.add(keys, tensors)
            advance(len(keys))
    return table.tensors


class _Table:
    """Tensors whose rows are filled in any order."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._row = {key: row for row, key in enumerate(keys)}
        self._filled = [False] * len(self._row)
        self.tensors: dict[str, Tensor] = {}

    def missing(self) -> list[str]:
        return [key for key, row in self._row.items() if not self._filled[row]]

    def put(self, keys: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        rows = [self._row[key] for key in keys]
        for name, tensor in tensors.items():
            if name not in self.tensors:
                shape = (len(self._row), *tensor.shape[1:])
                self.tensors[name] = torch.empty(shape, dtype=torch.bfloat16)
            target = self.tensors[name]
            if target.shape[1:] != tensor.shape[1:]:
                raise SgfluxError(
                    f"{name!r} of different shapes, {tuple(target.shape[1:])} and "
                    f"{tuple(tensor.shape[1:])}, under one encoder identity; an identity must "
                    "change with the encoder: use another cache folder"
                )
            target[rows] = tensor
        for row in rows:
            self._filled[row] = True


def _rounded(tensor: Tensor, name: str, batch: Sequence[object]) -> Tensor:
    if tensor.shape[0] != len(batch):
        raise SgfluxError(f"the encoder gave {tensor.shape[0]} {name!r} for {len(batch)} inputs")
    rounded = tensor.detach().to(device="cpu", dtype=torch.bfloat16)
    for item, row in zip(batch, rounded, strict=True):
        if not bool(torch.isfinite(row).all()):
            raise SgfluxError(
                f"the encoder gave {name!r} that is not finite for {str(item)!r}; "
                "float16 overflows, use bfloat16 or float32"
            )
    return rounded


def _positions(items: Mapping[str, object], keys: Sequence[str]) -> Tensor:
    position = {key: i for i, key in enumerate(items)}
    return torch.tensor([position[key] for key in keys], dtype=torch.int64)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
