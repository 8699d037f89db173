"""Frozen readers of one relation: from a picture's latents, or from a model's concept maps.

Both name the predicate of a statement whose two things are given; a statement with the roles
swapped is another question. Neither is told the predicate in question: the latent classifier knows
the two names alone, and the concept maps are those of the two things and of *every* predicate, so
that the right word gives itself away by what is in the picture, not by being asked for.

A trained one is a folder:

    classifier.safetensors    the weights, float32
    classifier.json           what it is, what it was made on, and how good it is on held-out data

Shapes: n statements, P predicates, D_text the features of a name, W the classifier's width; latents
(n, 16, h, w), scaled; maps (n, 2 + P, rows, columns).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sgflux.errors import SgfluxError
from sgflux.files.json_files import checked, read_json_bytes, typed
from sgflux.files.reading import naming_unreadable
from sgflux.files.tensors import module_from_state
from sgflux.files.writing import unfinished_folder
from sgflux.settings.classifier import ClassifierKind

WEIGHTS_FILE = "classifier.safetensors"
CARD_FILE = "classifier.json"
_FORMAT = 2
"""1 had saliency classifiers of maps without softening."""


_WAY_OUT = "make the classifier anew with `sgflux train-classifier`"
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Classes = Annotated[list[str], msgspec.Meta(min_length=2, max_length=100_000)]


class _ConfusionShape(msgspec.Struct):
    """The counts behind :meth:`ClassifierCard.confusion`."""

    labels: list[str]
    counts: list[list[Annotated[float, msgspec.Meta(ge=0, le=1e15)]]]

    def __post_init__(self) -> None:
        """Check that the counts are a square as large as the list of labels."""
        if {len(self.counts), *map(len, self.counts)} - {len(self.labels)}:
            raise ValueError("the confusion counts are no square of the labels")


class _HeldOutShape(msgspec.Struct):
    """What is read of the held-out figures."""

    accuracy: _Share
    ci95: tuple[_Share, _Share]
    chance: _Share
    confusion: _ConfusionShape


class _SettingsShape(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of either class."""

    text_dim: _Size | None = None
    channels: _Size | None = None
    width: _Size | None = None
    blocks: list[int] | None = None


class _CardShape(msgspec.Struct, forbid_unknown_fields=True):
    """A classifier's card, as its file has it."""

    format: int
    kind: ClassifierKind
    predicates: _Classes
    settings: _SettingsShape
    reads: str
    held_out: _HeldOutShape
    training: dict[str, Any]
    weights_sha256: str


class LatentRelationClassifier(nn.Module):
    """Names the predicate between two named things from scaled latents of any size."""

    def __init__(
        self, *, predicates: Sequence[str], text_dim: int, channels: int = 16, width: int = 96
    ) -> None:
        """Make it untrained.

        Args:
            predicates: the P classes.
            text_dim: D_text.
            channels: Number of channels of the latents.
            width: W, a multiple of 8.
        """
        super().__init__()
        self.predicates = tuple(predicates)
        self.settings = {"text_dim": text_dim, "channels": channels, "width": width}
        self.trunk = _Trunk(channels, width)
        self.subject_query = nn.Linear(text_dim, width)
        self.object_query = nn.Linear(text_dim, width)
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.answer = _answer(5 * width, width, len(self.predicates))

    def forward(self, latents: Tensor, subject: Tensor, object_: Tensor) -> Tensor:
        """Logits, (n, P) float32.

        Args:
            latents: (n, channels, h, w).
            subject: features of the subject's name, (n, D_text).
            object_: Features of the object's name, as ``subject``.
        """
        with torch.autocast(latents.device.type, enabled=False):
            tokens = self.trunk(latents.float()).flatten(2).transpose(1, 2)
            asked = torch.stack(
                [self.subject_query(subject.float()), self.object_query(object_.float())], dim=1
            )
            found, _ = self.look(asked, tokens, tokens, need_weights=False)
            pooled = torch.cat([found.flatten(1), asked.flatten(1), tokens.mean(dim=1)], dim=1)
            return self.answer(pooled)


class SaliencyRelationClassifier(nn.Module):
    """Names the predicate from concept maps of [subject, object, predicate 1 ... P]."""

    def __init__(
        self, *, predicates: Sequence[str], blocks: Sequence[int], width: int = 96
    ) -> None:
        """Make it untrained.

        Args:
            predicates: the P classes, in the order of their maps.
            blocks: the double blocks whose maps it reads, for the record.
            width: W, a multiple of 8.
        """
        super().__init__()
        self.predicates = tuple(predicates)
        self.blocks = tuple(blocks)
        self.settings = {"blocks": list(self.blocks), "width": width}
        self.trunk = _Trunk(2 + len(self.predicates), width)
        self.answer = _answer(3 * width, width, len(self.predicates))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits, (n, P) float32.

        Args:
            maps: Shares in [0, 1], summing to 1 over the concepts, (n, 2 + P, rows, columns).
        """
        with torch.autocast(maps.device.type, enabled=False):
            # Most of a softmax over many concepts is near 1 / their number.
            maps = maps.float()
            tokens = self.trunk(maps * maps.shape[1] - 1).flatten(2)
            where = maps[:, :2].flatten(2)
            where = where / where.sum(dim=2, keepdim=True).clamp(min=1e-6)
            pooled = torch.einsum("nwt,nct->ncw", tokens, where).flatten(1)
            return self.answer(torch.cat([pooled, tokens.mean(dim=2)], dim=1))


RelationClassifier = LatentRelationClassifier | SaliencyRelationClassifier


class _Trunk(nn.Module):
    """Pictures of any size and their own coordinates to features, (n, C, h, w) -> (n, W, h, w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + 2, width, 3, padding=1)
        self.blocks = nn.ModuleList(_residual(width) for _ in range(3))

    def forward(self, pictures: Tensor) -> Tensor:
        count, _, height, width = pictures.shape
        down = torch.linspace(-1, 1, height, device=pictures.device)[:, None].expand(-1, width)
        across = torch.linspace(-1, 1, width, device=pictures.device)[None].expand(height, -1)
        where = torch.stack([down, across]).expand(count, -1, -1, -1)
        features = self.enter(torch.cat([pictures, where], dim=1))
        for block in self.blocks:
            features = features + block(features)
        return features


def _residual(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(8, width),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(8, width),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
    )


def _answer(inputs: int, width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, 2 * width), nn.SiLU(), nn.Linear(2 * width, classes)
    )


# --- what is known of one -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClassifierCard:
    """What a classifier is, what it belongs to, and how good it is.

    Attributes:
        kind: Kind of its input: latents or saliency maps.
        predicates: Classes of the classifier.
        settings: Further arguments of its class.
        reads: Identity of what makes its input: the autoencoder, or the transformer.
        held_out: Figures on pictures that it was not trained on: accuracy, ci95 (low, high),
            chance, n, pictures, confusion {labels, counts}, calibration {ece, bins}.
        training: Settings and data of its training, plain JSON.
    """

    kind: ClassifierKind
    predicates: tuple[str, ...]
    settings: Mapping[str, Any]
    reads: str
    held_out: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def is_better_than_chance(self) -> bool:
        """Whether chance lies below the accuracy's whole confidence interval."""
        return float(self.held_out["ci95"][0]) > float(self.held_out["chance"])

    def expect_better_than_chance(self, where: str | os.PathLike[str]) -> None:
        """Refuse a classifier that may know nothing.

        Raises:
            SgfluxError: naming its accuracy, the interval and chance.
        """
        if not self.is_better_than_chance:
            low, high = self.held_out["ci95"]
            raise SgfluxError(
                f"classifier {os.fspath(where)!r} is refused as a loss: its held-out accuracy "
                f"{self.held_out['accuracy']:.1%} [{low:.1%}, {high:.1%}] is not above chance "
                f"({self.held_out['chance']:.1%}); train it longer or on more data, or use the "
                "ranker 'flow'"
            )

    def confusion(self) -> dict[str, dict[str, float]]:
        """True predicate -> mistaken for -> how often on held-out data, smoothed, without hits."""
        labels = self.held_out["confusion"]["labels"]
        table: dict[str, dict[str, float]] = {}
        for label, counts in zip(labels, self.held_out["confusion"]["counts"], strict=True):
            total = sum(counts)
            table[label] = {
                other: (count + 0.5) / (total + 1)
                for other, count in zip(labels, counts, strict=True)
                if other != label
            }
        return table


def expect_new(folder: Path) -> None:
    """Check that a classifier can be written: its folder is new or empty.

    Raises:
        SgfluxError: if there is something in the way.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SgfluxError(f"{folder} is in use; give a new folder for the classifier")


def save_classifier(
    folder: str | os.PathLike[str], model: RelationClassifier, card: ClassifierCard
) -> None:
    """Write the folder: a new one, all of it or nothing.

    Raises:
        SgfluxError: if there is something in the way, or a file cannot be written.
    """
    folder = Path(folder)
    expect_new(folder)
    weights = save({name: value.cpu() for name, value in model.state_dict().items()})
    content = {
        "format": _FORMAT,
        **dataclasses.asdict(card),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    with unfinished_folder(folder, size=len(weights)) as temporary:
        (temporary / WEIGHTS_FILE).write_bytes(weights)
        text = json.dumps(content, indent=2) + "\n"
        (temporary / CARD_FILE).write_text(text, encoding="utf-8")
        temporary.replace(folder)


def read_card(folder: str | os.PathLike[str]) -> ClassifierCard:
    """What is known of a classifier.

    Raises:
        SgfluxError: if the folder holds none, or its card is damaged.
    """
    return _read_card(Path(folder))[0]


def load_classifier(folder: str | os.PathLike[str]) -> tuple[RelationClassifier, ClassifierCard]:
    """Read a classifier, frozen, on the CPU.

    Raises:
        SgfluxError: if the folder holds none, or a file is damaged or of another classifier.
    """
    folder = Path(folder)
    card, digest = _read_card(folder)
    path = folder / WEIGHTS_FILE
    with naming_unreadable(path, SafetensorError):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise SgfluxError(f"{path} is not the file that {CARD_FILE} describes")
        state = load(data)
    classes = {"latent": LatentRelationClassifier, "saliency": SaliencyRelationClassifier}

    def make() -> RelationClassifier:
        return classes[card.kind](predicates=card.predicates, **card.settings)

    weights = {name: value.float() for name, value in state.items()}
    model: RelationClassifier = module_from_state(make, weights, where=str(path))
    return model.requires_grad_(False).eval(), card


def _read_card(folder: Path) -> tuple[ClassifierCard, str]:
    """The card, and the digest of the weights that it describes."""
    path = folder / CARD_FILE
    if not path.is_file():
        raise SgfluxError(
            f"{folder} is no classifier: it has no {CARD_FILE}; `sgflux train-classifier` writes "
            "one"
        )
    content: dict[str, Any] = typed(read_json_bytes(path), dict, where=str(path), way_out=_WAY_OUT)
    if content.get("format") != _FORMAT:
        raise SgfluxError(f"{path}: is no classifier that this version of sgflux wrote")
    checked(content, _CardShape, where=str(path), way_out=_WAY_OUT)
    del content["format"]
    digest = content.pop("weights_sha256")
    return ClassifierCard(**{**content, "predicates": tuple(content["predicates"])}), digest
