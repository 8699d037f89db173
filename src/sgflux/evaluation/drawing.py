"""Pictures on disk: draw what is missing, keep what is there, read them back for the judge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgflux.data.pictures import read_picture, save_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import PictureRequest, batches, statements_about
from sgflux.evaluation.generators import Generator
from sgflux.evaluation.judges import Judge, Reading, read_pictures
from sgflux.leftovers import sweep

_LOGGER = logging.getLogger(__name__)

PICTURES = "pictures"
"""The folder of all pictures, one folder an arm in it."""


@dataclass(frozen=True)
class JudgedPicture:
    """A picture and what the judge said of it.

    Attributes:
        request: what it is.
        path: relative to the evaluation's folder.
        reading: None without a judge.
    """

    request: PictureRequest
    path: str
    reading: Reading | None


@dataclass(frozen=True)
class DrawingCount:
    """What became of an arm's pictures.

    Attributes:
        drawn: of which there was none, or a broken one.
        replaced: of which there was one that was made differently.
        reused: that were there already.
    """

    drawn: int = 0
    replaced: int = 0
    reused: int = 0

    def __add__(self, other: DrawingCount) -> DrawingCount:
        """Both together."""
        return DrawingCount(
            self.drawn + other.drawn, self.replaced + other.replaced, self.reused + other.reused
        )


def picture_path(request: PictureRequest) -> str:
    """Where a picture is, relative to the evaluation's folder."""
    return f"{PICTURES}/{request.arm}/{request.file_name}"


def draw_arm(
    generator: Generator,
    requests: Sequence[PictureRequest],
    *,
    out_dir: Path,
    batch_size: int,
    advance: Callable[[int], object],
) -> DrawingCount:
    """Draw one arm's pictures; those that are there, whole and made the same way, are kept.

    The caller holds the evaluation's folder: what a killed evaluation left half-written is removed.

    Args:
        generator: draws.
        requests: the arm's pictures.
        out_dir: the evaluation's folder.
        batch_size: pictures drawn at once.
        advance: called with the number of pictures just done.

    Raises:
        SgfluxError: if the generator does not give one picture a request.
    """
    for folder in {(out_dir / picture_path(request)).parent for request in requests}:
        for line in sweep(folder):
            _LOGGER.warning(line)
    missing: list[PictureRequest] = []
    replaced = 0
    for request in requests:
        path = out_dir / picture_path(request)
        if not path.exists():
            missing.append(request)
            continue
        try:
            _, info = read_picture(path)
        except SgfluxError:
            missing.append(request)  # interrupted or damaged
            continue
        if _same(info, generator.record(request)):
            advance(1)
        else:
            missing.append(request)
            replaced += 1
    for batch in batches(missing, batch_size):
        pictures = generator.draw(batch)
        if len(pictures) != len(batch):
            raise SgfluxError(
                f"generator {generator.name!r} gave {len(pictures)} pictures for "
                f"{len(batch)} requests"
            )
        for request, picture in zip(batch, pictures, strict=True):
            save_picture(out_dir / picture_path(request), picture, generator.record(request))
        advance(len(batch))
    reused = len(requests) - len(missing)
    return DrawingCount(drawn=len(missing) - replaced, replaced=replaced, reused=reused)


def _same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a picture is what would be drawn now; the model may be called by another name."""
    return {**found, "model": None} == {**wanted, "model": None}


def judge_arm(
    judge: Judge | None,
    requests: Sequence[PictureRequest],
    *,
    out_dir: Path,
    batch_size: int,
) -> list[JudgedPicture]:
    """Read one arm's pictures from the disk and ask the judge about them, if there is one."""
    judged = []
    for batch in batches(requests, batch_size):
        readings: Sequence[Reading | None] = [None] * len(batch)
        if judge is not None:
            pictures = [read_picture(out_dir / picture_path(request))[0] for request in batch]
            readings = read_pictures(judge, pictures, [statements_about(r) for r in batch])
        for request, reading in zip(batch, readings, strict=True):
            judged.append(JudgedPicture(request, picture_path(request), reading))
    return judged


def pixel_distances(
    pairs: Iterable[tuple[PictureRequest, PictureRequest]], *, out_dir: Path
) -> list[float]:
    """Mean absolute difference of each pair of pictures, from 0 to 1."""
    distances = []
    for first, second in pairs:
        one, other = (read_picture(out_dir / picture_path(r))[0] for r in (first, second))
        distances.append(float(np.abs(one.astype(np.float32) - other).mean() / 255))
    return distances
