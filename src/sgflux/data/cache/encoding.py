"""Encoding a data set: what it needs encoded, what a store lacks of it, and who encodes which part.

Shapes: N examples, U different pictures (file, crop, size), P different prompts; latents
(16, h, w); text of L tokens with D features, and D_pooled pooled ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from sgflux.data.buckets import Size, nearest_size
from sgflux.data.cache.arrays import TrainingArrays, name_key, text_key
from sgflux.data.cache.pictures import Picture, fitted_picture, read_files
from sgflux.data.cache.store import CacheStore
from sgflux.data.cache.tensor_rows import JoinedRows, MemoryRows, StoredRows, TensorRows
from sgflux.data.cache.text_formats import UnpackedRows, packed
from sgflux.data.content import content_digest
from sgflux.data.examples import SceneExample
from sgflux.data.images import CROPS, Crop, squash, squash_line
from sgflux.data.progress import progress_bar
from sgflux.data.prompts import PROMPT_KINDS, PromptKind, true_prompt_for
from sgflux.errors import SgfluxError
from sgflux.settings.shared import TextFormat


@dataclass(frozen=True)
class Share:
    """Which entries one of several processes encodes: a part that depends on the keys alone."""

    index: int = 0
    count: int = 1

    def of(self, keys: Iterable[str]) -> list[str]:
        """Return this process' part of the keys."""
        return [key for key in keys if int(key[:8], 16) % self.count == self.index]


ALL = Share()
"""What a process that works alone encodes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoders:
    """What encodes, and how much at once; each is called only if something is missing.

    Attributes:
        images: (B, 3, H, W) float32 in [-1, 1] on the CPU -> mean and std, (B, 16, h, w).
        text: B prompts -> features by name, (B, ...) each; those of tokens, (B, L, D), have
            exactly ``max_sequence_length`` of them.
        batch_size: pictures or prompts an encoder gets at once.
    """

    images: Callable[[Tensor], tuple[Tensor, Tensor]]
    text: Callable[[list[str]], Mapping[str, Tensor]]
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Check the batch size."""
        if self.batch_size < 1:
            raise SgfluxError(f"batch_size must be at least 1, got {self.batch_size}")


class EncodingPlan:
    """What a data set needs encoded: its different pictures and prompts, by key.

    Attributes:
        examples: the data set.
        files: SHA-256 of the file of each example's picture, in hex.
        content: one digest of all rows and pictures.
        pictures: key -> picture, in the order of the rows; with buckets, bucket by bucket.
        prompts: key -> prompt.
        sizes: the size of each example's picture, with buckets; else empty.
        text_format: Form in which a store holds features of texts.
    """

    def __init__(
        self,
        examples: Iterable[SceneExample],
        *,
        images_dir: str | os.PathLike[str],
        height: int,
        width: int,
        crop: Crop = "auto",
        encoder_identity: str,
        text_identity: str,
        max_sequence_length: int,
        prompt: Callable[[SceneExample, PromptKind], str] = true_prompt_for,
        buckets: Sequence[Size] | None = None,
        text_format: TextFormat = "bf16",
    ) -> None:
        """Read every picture's file for its digest; nothing is decoded yet.

        Args:
            examples: Examples, at least one.
            images_dir: the folder of the pictures.
            height: Height in pixels to which pictures are fitted.
            width: Width in pixels to which pictures are fitted.
            crop: Name of the crop; ``union`` needs rows with boxes, ``auto`` uses them.
            encoder_identity: changes whenever the autoencoder would give other values.
            text_identity: the same for the text encoders.
            max_sequence_length: tokens a prompt.
            prompt: the text of an example by kind; by default no false text is encoded.
            buckets: sizes of which each picture gets the nearest one in ratio, instead of height
                and width, see :func:`~sgflux.data.buckets.bucket_sizes`.
            text_format: Form in which a store holds features of texts, see
                :mod:`sgflux.data.cache.text_formats`.

        Raises:
            SgfluxError: if there is no example; naming the row and the picture that is missing or
                without boxes.
        """
        self.examples = tuple(examples)
        if not self.examples:
            raise SgfluxError("there is no example to encode")
        if crop not in CROPS:
            raise SgfluxError(f"crop must be one of {list(CROPS)}, got {crop!r}")
        self._size, self._length = (height, width), max_sequence_length
        self.text_format = text_format
        sizes: list[Size] = []
        files = read_files(self.examples, images_dir)
        self.files = [files[one.image_rel_path].sha256 for one in self.examples]
        self.content = content_digest(self.examples, self.files)
        self.pictures: dict[str, Picture] = {}
        self._picture_keys: list[str] = []
        for row, example in enumerate(self.examples):
            file = files[example.image_rel_path]
            sizes.append(nearest_size(file.size, buckets) if buckets else self._size)
            picture = fitted_picture(file, example, row=row, size=sizes[-1], crop=crop)
            key = picture.key(encoder_identity)
            self.pictures.setdefault(key, picture)
            self._picture_keys.append(key)
        self.sizes = tuple(sizes) if buckets else ()
        # What has one size stands together; sorting keeps the order within it.
        self.pictures = dict(sorted(self.pictures.items(), key=lambda one: one[1].size))
        self.prompts: dict[str, str] = {}
        self._prompt_keys: list[str] = []
        for example in self.examples:
            for kind in PROMPT_KINDS:
                text = prompt(example, kind)
                key = text_key(
                    text,
                    max_sequence_length=max_sequence_length,
                    identity=text_identity,
                    form=text_format,
                )
                self.prompts[key] = text
                self._prompt_keys.append(key)

    def shape_line(self) -> str | None:
        """Say how many pictures are squashed or lose a part of what their rows are about.

        None if every picture is shown as it is.
        """
        height, width = self._size
        where = "the sizes of their buckets" if self.sizes else f"{width} x {height}"
        window = "their bucket's shape" if self.sizes else f"{width} x {height}"
        pictures = list(self.pictures.values())
        factors = [squash(one.window, height=one.size[0], width=one.size[1]) for one in pictures]
        line = squash_line(factors, where)
        parts = [] if line is None else [line]
        cut = sum(one.crop == "auto" for one in pictures)
        if cut:
            parts.append(
                f"of {cut} of {len(pictures)} pictures no window of {window} holds all "
                "objects, which are cut at its border (the crop 'union' squashes them instead)"
            )
        return "; ".join(parts) or None

    def missing(self, store: CacheStore) -> int:
        """Return how many entries the store lacks."""
        return len(store.missing(list(self.pictures))) + len(store.missing(list(self.prompts)))

    def fill(
        self,
        store: CacheStore,
        encoders: Encoders,
        *,
        share: Share = ALL,
        progress: bool = False,
    ) -> int:
        """Encode what the store lacks, as far as it is this process' share; returns how many.

        What was encoded before an interruption is found again.

        Raises:
            SgfluxError: naming a picture that is broken; if an encoder gives values that are not
                finite or not as many as it was asked for.
        """
        pictures = store.missing(share.of(self.pictures))
        prompts = store.missing(share.of(self.prompts))
        with store.writer() as writer:
            for keys, tensors in self._encoded(pictures, prompts, encoders, progress=progress):
                if keys[0] in self.prompts:
                    texts = [self.prompts[key] for key in keys]
                    tensors = packed(tensors, texts, form=self.text_format)
                writer.add(keys, tensors)
        return len(pictures) + len(prompts)

    def opened(self, store: CacheStore) -> TrainingArrays:
        """Open the data set and leave it on disk.

        Raises:
            SgfluxError: if the store lacks an entry.
        """
        latents = [StoredRows(store, keys) for keys in self._by_size(list(self.pictures))]
        texts = UnpackedRows(StoredRows(store, list(self.prompts)))
        return self._arrays(_joined(latents), texts)

    def in_memory(self, encoders: Encoders, *, progress: bool = False) -> TrainingArrays:
        """Encode the data set and hold it in memory.

        Raises:
            SgfluxError: as :meth:`fill`.
        """
        # What is of one kind and, if it is a picture, of one size is stacked.
        parts: dict[Size | None, dict[str, list[Tensor]]] = {}
        pictures, prompts = list(self.pictures), list(self.prompts)
        for keys, tensors in self._encoded(pictures, prompts, encoders, progress=progress):
            size = self.pictures[keys[0]].size if "mean" in tensors else None
            for name, tensor in tensors.items():
                parts.setdefault(size, {}).setdefault(name, []).append(tensor)
        rows = {
            size: MemoryRows({name: torch.cat(entries) for name, entries in own.items()})
            for size, own in parts.items()
        }
        texts = rows.pop(None)
        return self._arrays(_joined(list(rows.values())), texts)

    def _arrays(self, latents: TensorRows, texts: TensorRows) -> TrainingArrays:
        prompt_index = _positions(self.prompts, self._prompt_keys)
        return TrainingArrays(
            examples=self.examples,
            latents=latents,
            image_index=_positions(self.pictures, self._picture_keys),
            prompts=tuple(self.prompts.values()),
            texts=texts,
            prompt_index=prompt_index.view(len(self.examples), len(PROMPT_KINDS)),
            sizes=self.sizes,
        )

    def _by_size(self, keys: Sequence[str]) -> list[list[str]]:
        """Return the pictures' keys, those of one size together."""
        groups = groupby(keys, key=lambda key: self.pictures[key].size)
        return [list(group) for _, group in groups]

    def _encoded(
        self,
        pictures: Sequence[str],
        prompts: Sequence[str],
        encoders: Encoders,
        *,
        progress: bool,
    ) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        """Yield keys and their tensors, batch by batch: first the pictures, then the prompts."""
        size = encoders.batch_size
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(len(pictures), "latents", show=progress) as advance,
        ):
            for keys in _batches(self._by_size(pictures), size):
                batch = [self.pictures[key] for key in keys]
                images = torch.stack(list(pool.map(Picture.load, batch)))
                with torch.no_grad():
                    mean, std = encoders.images(images)
                yield keys, _rounded({"mean": mean, "std": std}, batch)
                advance(len(keys))
        with progress_bar(len(prompts), "prompts", show=progress) as advance:
            for keys in _batches([prompts], size):
                texts = [self.prompts[key] for key in keys]
                with torch.no_grad():
                    features = encoders.text(texts)
                for tensor in features.values():
                    if tensor.ndim == 3 and tensor.shape[1] != self._length:
                        raise SgfluxError(
                            f"the text encoder gave {tensor.shape[1]} tokens a prompt where "
                            f"max_sequence_length is {self._length}"
                        )
                yield keys, _rounded(features, texts)
                advance(len(keys))


def name_features(
    names: Sequence[str],
    encode: Callable[[Sequence[str]], Tensor],
    *,
    store: CacheStore,
    max_sequence_length: int,
    identity: str,
) -> Tensor:
    """Return text features of names, (n, D) float32, from the store as far as it has them.

    Args:
        names: n names, at least one.
        encode: names -> (n, D), called for those that are missing.
        store: Cache that is read first and that keeps the new features.
        max_sequence_length: Tokens of the prompt that a statement is read as.
        identity: changes whenever ``encode`` would give other values.
    """
    length = max_sequence_length
    keys = [name_key(name, max_sequence_length=length, identity=identity) for name in names]
    lacking = set(store.missing(keys))
    if lacking:
        new = {key: name for key, name in zip(keys, names, strict=True) if key in lacking}
        with store.writer() as writer:
            features = encode(list(new.values())).detach().to("cpu", torch.float32)
            writer.add(list(new), {"name": features})
    return StoredRows(store, keys).rows(torch.arange(len(keys)))["name"]


def _rounded(tensors: Mapping[str, Tensor], batch: Sequence[object]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in tensors.items():
        if tensor.shape[0] != len(batch):
            raise SgfluxError(
                f"the encoder gave {tensor.shape[0]} {name!r} for {len(batch)} inputs"
            )
        rounded = tensor.detach().to(device="cpu", dtype=torch.bfloat16)
        for item, row in zip(batch, rounded, strict=True):
            if not bool(torch.isfinite(row).all()):
                raise SgfluxError(
                    f"the encoder gave {name!r} that is not finite for {str(item)!r}; "
                    "float16 overflows, use bfloat16 or float32"
                )
        result[name] = rounded
    return result


def _batches(groups: Iterable[Sequence[str]], size: int) -> Iterator[list[str]]:
    """Yield up to ``size`` keys at a time, none from two groups."""
    for keys in groups:
        for start in range(0, len(keys), size):
            yield list(keys[start : start + size])


def _joined(parts: Sequence[TensorRows]) -> TensorRows:
    return parts[0] if len(parts) == 1 else JoinedRows(parts)


def _positions(items: Mapping[str, object], keys: Sequence[str]) -> Tensor:
    position = {key: i for i, key in enumerate(items)}
    return torch.tensor([position[key] for key in keys], dtype=torch.int64)
