"""The bundled world's judge: a small network that names the relation of two objects in a picture.

Shapes: B images, Q queries, C = 25 classes (the 24 canonical predicates in alphabetical order, then
"none"), N = 14 objects. Images are RGB, (B, 3, 64, 64) float in [0, 1].

A query is an ordered pair (subject, object). Its class is the predicate of that pair, the inverse
or the same predicate where the scene states it the other way round, and "none" where the pair
stands in no relation in this order or is not in the picture at all. How well the bundled weights do
this on fresh pictures is written beside them, in ``world_judge.json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from sgflux.errors import SgfluxError
from sgflux.files.json_files import read_json_bytes, typed
from sgflux.files.tensors import module_from_state
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES

NONE_INDEX = len(PREDICATES)
"""Class of a pair that stands in no relation in this order."""
CLASSES: tuple[str, ...] = (*PREDICATES, "none")
"""Names of the C classes, by index."""
IMAGE_SIZE = 64
"""Side of the pictures that the judge reads, pixels."""

_BUNDLED = Path(__file__).parent.parent / "assets" / "world_judge.safetensors"
_WAY_OUT = "`sgflux world train-judge` writes both files"
_Size = Annotated[int, msgspec.Meta(ge=1, le=8192)]


class _Sizes(msgspec.Struct):
    """The arguments of :class:`WorldJudge`."""

    fine: _Size
    coarse: _Size
    dim: _Size
    heads: _Size
    looks: Annotated[int, msgspec.Meta(ge=1, le=64)]

    def __post_init__(self) -> None:
        """Check that the heads divide the width."""
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.dim}")


class _Card(msgspec.Struct):
    """What of a judge's card its loading depends on."""

    config: _Sizes
    sha256: str


@dataclass(frozen=True)
class JudgeFeatures:
    """What the judge keeps of each image; query it as often as needed.

    Attributes:
        tokens: (B, 256, D) float32, a 16 x 16 grid, row by row.
        location_logits: (B, N, 256) float32, > 0 where an object covers the middle of a cell.
        presence_logits: (B, N) float32, > 0 where an object is in the picture.
    """

    tokens: Tensor
    location_logits: Tensor
    presence_logits: Tensor


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(inner)))


class _Look(nn.Module):
    """The query's tokens look at the image, then at each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_image = nn.LayerNorm(dim)
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm_self = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.self_out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Let query (B, Q, 3, D) attend to tokens (B, T, D): (B, Q, 3, D)."""
        b, q, r, d = query.shape
        split = (self.heads, d // self.heads)
        # all Q * 3 rows of an image attend to its tokens at once
        rows = self.to_query(self.norm_image(query)).view(b, q * r, *split).transpose(1, 2)
        keys, values = self.to_key_value(tokens).view(b, -1, 2, *split).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(rows, keys, values)
        query = query + self.out(seen.transpose(1, 2).reshape(b, q, r, d))
        # the three rows of one query attend to each other only
        qkv = self.to_qkv(self.norm_self(query)).view(b * q, r, 3, *split).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv)
        query = query + self.self_out(mixed.transpose(1, 2).reshape(b, q, r, d))
        return query + self.mlp(self.norm_mlp(query))


class WorldJudge(nn.Module):
    """Reads a picture once, then names the relation of any number of (subject, object) pairs."""

    def __init__(
        self, *, fine: int = 64, coarse: int = 104, dim: int = 72, heads: int = 4, looks: int = 2
    ) -> None:
        """Build with random weights; :func:`read_judge` gives the trained ones.

        Args:
            fine, coarse: channels of the 16 x 16 and the 8 x 8 grid, multiples of 8.
            dim: width of the queries, a multiple of ``heads``.
            heads: attention heads.
            looks: Number of times that a query attends to the picture.
        """
        super().__init__()
        self.config = {"fine": fine, "coarse": coarse, "dim": dim, "heads": heads, "looks": looks}
        self.stem1 = nn.Conv2d(3, fine // 2, 3, stride=2, padding=1)
        self.stem2 = nn.Conv2d(fine // 2, fine, 3, stride=2, padding=1)
        self.fine_block = _Residual(fine)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse_blocks = nn.Sequential(_Residual(coarse), _Residual(coarse))
        self.from_fine = nn.Conv2d(fine, dim, 1)
        self.from_coarse = nn.Conv2d(coarse, dim, 1)
        self.positions = nn.Parameter(torch.randn(256, dim) * 0.3)
        self.token_norm = nn.LayerNorm(dim)
        self.locations = nn.Linear(dim, len(OBJECT_NAMES))
        self.presence_offset = nn.Parameter(torch.zeros(len(OBJECT_NAMES)))
        self.subjects = nn.Embedding(len(OBJECT_NAMES), dim)
        self.objects = nn.Embedding(len(OBJECT_NAMES), dim)
        self.pair = nn.Linear(2 * dim, dim)
        self.looks = nn.ModuleList(_Look(dim, heads) for _ in range(looks))
        self.head = nn.Sequential(
            nn.LayerNorm(3 * dim),
            nn.Linear(3 * dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, len(CLASSES)),
        )

    def encode(self, images: Tensor) -> JudgeFeatures:
        """Read the pictures.

        Args:
            images: (B, 3, 64, 64) float in [0, 1].

        Raises:
            ValueError: on another shape.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"images: expected (B, 3, 64, 64), got {tuple(images.shape)}")
        x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        fine = F.relu(self.fine_block(self.stem2(F.relu(self.stem1(x)))))
        coarse = F.relu(self.coarse_blocks(self.down(fine)))
        # context from the coarse grid, detail from the fine one
        context = F.interpolate(self.from_coarse(coarse), scale_factor=2, mode="nearest")
        merged = (self.from_fine(fine) + context).flatten(2).transpose(1, 2)
        locations = self.locations(F.relu(merged)).transpose(1, 2).float()
        tokens = self.token_norm(merged + self.positions)
        # an object is present where at least one place says so
        presence = locations.logsumexp(2) + self.presence_offset
        return JudgeFeatures(tokens.float(), locations, presence)

    def relation_logits(
        self,
        features: JudgeFeatures,
        subjects: Tensor,
        objects: Tensor,
        *,
        subject_cells: Tensor | None = None,
        object_cells: Tensor | None = None,
    ) -> Tensor:
        """Name the relation of pairs.

        Args:
            features: Features of B images.
            subjects, objects: (B, Q) long, indices into ``OBJECT_NAMES``.
            subject_cells, object_cells: (B, Q, 256) bool, the cells in which the object is looked
                for; None for all. So one of two objects of one name is meant.

        Returns:
            (B, Q, C) float32.
        """
        # each row starts from what the picture shows where its object is
        first = self.subjects(subjects) + _read_at(features, subjects, subject_cells)
        second = self.objects(objects) + _read_at(features, objects, object_cells)
        query = torch.stack([first, second, self.pair(torch.cat([first, second], -1))], dim=2)
        for look in self.looks:
            query = look(query, features.tokens)
        logits: Tensor = self.head(query.flatten(2)).float()
        return logits


def _read_at(features: JudgeFeatures, objects: Tensor, cells: Tensor | None) -> Tensor:
    """Return the mean token over the cells of each object: objects (B, Q) -> (B, Q, D)."""
    index = objects[..., None].expand(-1, -1, features.location_logits.shape[2])
    logits = features.location_logits.gather(1, index)
    if cells is not None:
        logits = logits.masked_fill(~cells, float("-inf"))
    return logits.softmax(-1) @ features.tokens


def to_judge_images(images: np.ndarray | Sequence[np.ndarray]) -> Tensor:
    """Convert uint8 (B, H, W, 3), H = W = 64 k, to (B, 3, 64, 64) float32 in [0, 1].

    Raises:
        ValueError: on another type or shape.
    """
    stacked = np.asarray(images)
    if stacked.dtype != np.uint8 or stacked.ndim != 4 or stacked.shape[3] != 3:
        raise ValueError(f"expected uint8 (B, H, W, 3), got {stacked.dtype} {stacked.shape}")
    height, width = stacked.shape[1:3]
    if height != width or height % IMAGE_SIZE:
        raise ValueError(f"expected a square whose side is a multiple of 64, got {height}x{width}")
    pixels = torch.from_numpy(stacked.copy()).permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(pixels, height // IMAGE_SIZE) if height != IMAGE_SIZE else pixels


def read_judge(path: str | Path | None = None) -> tuple[WorldJudge, str]:
    """Read the trained judge, in eval mode, float32, and the SHA-256 of its weights' file.

    Args:
        path: a ``.safetensors`` file with its ``.json`` beside it; the bundled one if None.

    Raises:
        SgfluxError: if a file is missing, damaged or does not fit the network, with the keys.
    """
    where = "bundled judge" if path is None else str(path)
    file = _BUNDLED if path is None else Path(path)
    for needed in (file, file.with_suffix(".json")):
        if not needed.is_file():
            raise SgfluxError(f"judge: no such file: {needed}")
    weights, text = file.read_bytes(), read_json_bytes(file.with_suffix(".json"))
    card = typed(text, _Card, where=f"{where}: its .json", way_out=_WAY_OUT)
    try:
        state = load_tensors(weights)
    except SafetensorError as error:
        raise SgfluxError(f"{where}: not a safetensors file: {error}") from error
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card.sha256:
        raise SgfluxError(
            f"{where}: these weights are not the ones that its .json measured "
            f"(sha256 {digest[:12]}... instead of {card.sha256[:12]}...)"
        )
    judge = module_from_state(
        lambda: WorldJudge(**msgspec.structs.asdict(card.config)),
        {key: value.float() for key, value in state.items()},
        where=where,
    )
    return judge.eval().requires_grad_(False), digest
