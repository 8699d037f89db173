"""Every bit of resumable state in one object, and the files it lives in.

All files load with ``torch.load(..., weights_only=True)``: they hold tensors, numbers, texts, lists
and dictionaries, nothing of ours.
"""

from __future__ import annotations

import dataclasses
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor

from sgflux.errors import SgfluxError
from sgflux.files.tensors import torch_reason
from sgflux.files.writing import replacing
from sgflux.training.checkpoints.checksum import content_checksum

_LOGGER = logging.getLogger(__name__)

Record = TypeVar("Record")

_FORMAT = 1
_CHECKSUM = "checksum"


class CheckpointError(SgfluxError):
    """A file that is no checkpoint of ours, or not one of this run."""


@dataclass(frozen=True, kw_only=True)
class AdapterWeights:
    """A trained adapter, as ``best_graph_lora_{mode}.pt`` and ``final_graph_…`` keep it.

    Attributes:
        step: Number of optimizer steps behind the weights.
        trainable: Name -> float32 weight, as ``GraphLoraModel.trainable_state`` names them.
        ema: Moving average of the weights; None where the run keeps none.
        adapter: ``AdapterConfig`` as JSON.
        metrics: Figures of the last validation; those of a best adapter include ``select_by``.
    """

    step: int
    trainable: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    adapter: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to use: the averaged ones where there are any."""
        return self.trainable if self.ema is None else self.ema

    def save(self, path: Path) -> None:
        """Write the file, all of it or nothing."""
        _save({"format": _FORMAT, **shallow_dict(self)}, path)

    @classmethod
    def load(cls, path: Path) -> AdapterWeights:
        """Read the file, on the CPU.

        Raises:
            CheckpointError: if it is no such file.
        """
        return _load(path, cls)


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A run after some optimizer step, as ``step{N}.pt`` keeps it.

    The learning rate and the random draws of every later step follow from ``step`` and the
    config's seed, so neither a scheduler nor the generators of the batches have state; ``rng`` is
    torch's global generator, for the sake of modules that might use it.

    Attributes:
        step: Number of optimizer steps done.
        epoch: Number of passes over the data done, without the running one.
        position: Number of examples drawn from the training set since the start, over all
            processes.
        trainable: Name -> float32 weight.
        ema: Moving average of the weights; None where the run keeps none.
        optimizer: AdamW's ``state_dict``.
        rng: State of torch's global generator on the CPU, uint8.
        config: ``TrainConfig`` as JSON.
        adapter: ``AdapterConfig`` as JSON.
        data: Split, or name of another file that decides the training -> SHA-256 of that file.
        processes: Number of processes that shared the work.
        validated_step: Last step after which validation has run; 0 before the first.
        best: Best adapter so far; None before the first validation.
        confusion: Table that hard negatives are drawn by; None where there are none.
        content: Split -> digest of its rows and the bytes of their pictures; None in a checkpoint
            of an older sgflux.
        passes: Number of forward passes of a step, over all processes; None in a checkpoint of an
            older sgflux.
        patience: Count of the validations since the figure of early stopping last got better; None
            without early stopping.
        metrics: Figures of the last validation; None in a checkpoint of an older sgflux.
    """

    step: int
    epoch: int
    position: int
    trainable: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    rng: Tensor
    config: dict[str, Any]
    adapter: dict[str, Any]
    data: dict[str, str]
    processes: int
    validated_step: int
    best: AdapterWeights | None
    confusion: dict[str, Any] | None = None
    content: dict[str, str] | None = None
    passes: int | None = None
    patience: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None

    @property
    def passes_of_step(self) -> int:
        """Number of forward passes of a step, over all processes."""
        if self.passes is not None:
            return self.passes
        return self.processes * int(self.config["gradient_accumulation_steps"])

    def save(self, path: Path) -> None:
        """Write the file, all of it or nothing."""
        best = None if self.best is None else shallow_dict(self.best)
        _save({"format": _FORMAT, **shallow_dict(self), "best": best}, path)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read the file, on the CPU.

        Raises:
            CheckpointError: if it is no such file.
        """
        return _load(path, cls)


def shallow_dict(record: Any) -> dict[str, Any]:
    """Field -> value without copying tensors, as ``dataclasses.asdict`` would."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def on_cpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that the next step does not change."""
    return {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}


def _save(content: dict[str, Any], path: Path) -> None:
    content = {**content, _CHECKSUM: content_checksum(content)}
    with replacing(path, size=_bytes_of(content)) as file:
        torch.save(content, file)


def _bytes_of(content: Any) -> int:
    """Bytes of all tensors in nested containers, which is nearly all that a file of them takes."""
    if isinstance(content, Tensor):
        return content.nbytes
    if isinstance(content, Mapping):
        return sum(map(_bytes_of, content.values()))
    return sum(map(_bytes_of, content)) if isinstance(content, list | tuple) else 0


def _load(path: Path, cls: type[Record]) -> Record:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises a different type for each way to be no checkpoint
        raise CheckpointError(f"{path}: is no checkpoint: {torch_reason(error)}") from error
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    checksum = content.pop(_CHECKSUM, None) if isinstance(content, dict) else None
    known = {"format", *(field.name for field in fields)}
    needed = known - {field.name for field in fields if field.default is not dataclasses.MISSING}
    if not isinstance(content, dict) or not needed <= set(content) <= known:
        raise CheckpointError(f"{path}: is not a {cls.__name__} that sgflux wrote")
    if content["format"] != _FORMAT:
        raise CheckpointError(f"{path}: was written by another version of sgflux")
    if checksum is None:
        _check_records(path)
        _LOGGER.warning(
            "%s: was written by an older sgflux, without a checksum of its own: only the checksums "
            "of torch's zip file were compared",
            path,
        )
    else:
        _check_checksum(content, checksum, path)
    try:  # an older file has no checksum that vouches for its types
        return msgspec.convert(content, cls)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error


def _check_records(path: Path) -> None:
    """Compare the CRC-32 of each record of torch's zip file, which ``torch.load`` does not do."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error
    if damaged is not None:
        raise CheckpointError(
            f"{path}: is damaged: the checksum of its record {damaged!r} differs; take an earlier "
            "step{N}.pt, or copy the file again"
        )


def _check_checksum(content: dict[str, Any], checksum: Any, path: Path) -> None:
    try:
        is_same = content_checksum(content) == checksum
    except (TypeError, ValueError):
        is_same = False
    if not is_same:
        raise CheckpointError(
            f"{path}: is damaged: its content is not what was saved (the checksums differ); take "
            "an earlier step{N}.pt, or copy the file again"
        )
