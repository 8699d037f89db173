"""Pictures on disk: draw what is missing, keep what is there, read them back for the judge."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sgflux.data.pictures import read_picture, save_picture
from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, PictureRequest, batches, questions_about
from sgflux.evaluation.generators import Generator
from sgflux.evaluation.judges.judge import Judge, Reading, read_questions
from sgflux.files.leftovers import sweep
from sgflux.files.writing import make_folder
from sgflux.sampling.companions import Companions

_LOGGER = logging.getLogger(__name__)

PICTURES = "pictures"
"""The folder of all pictures, one folder an arm in it."""
PIXELS_KEY = "pixels_sha256"
"""Where a picture's record has the digest of its pixels."""
CHANGED_SINCE = (
    "has changed since it was judged; run the same 'sgflux eval' again, which draws it anew"
)
"""What an error says of a picture, after its path."""


@dataclass(frozen=True)
class JudgedPicture:
    """A picture and what the judge said of it.

    Attributes:
        request: Request that the picture was drawn for.
        path: relative to the evaluation's folder.
        reading: None without a judge.
        pixels: SHA-256 of the pixels that were judged, in hex.
    """

    request: PictureRequest
    path: str
    reading: Reading | None
    pixels: str | None = None


class DrawingCount(NamedTuple):
    """What became of an arm's pictures.

    Attributes:
        drawn: Number of pictures that were missing or broken before.
        replaced: Number of pictures that had been made differently before.
        reused: Number of pictures that were there already.
    """

    drawn: int = 0
    replaced: int = 0
    reused: int = 0


def picture_path(request: PictureRequest) -> str:
    """Return where a picture is, relative to the evaluation's folder."""
    return f"{PICTURES}/{request.arm}/{request.item.row:06d}-{request.repeat}.png"


def sweep_pictures(out_dir: Path) -> None:
    """Remove what a killed evaluation left half-written; the caller holds the folder."""
    for folder in sorted((out_dir / PICTURES).glob("*")):
        for line in sweep(folder):
            _LOGGER.warning(line)


def draw_arm(
    generator: Generator,
    requests: Sequence[PictureRequest],
    *,
    out_dir: Path,
    batch_size: int,
    advance: Callable[[int], object],
) -> DrawingCount:
    """Draw one arm's pictures; those that are there, whole and made the same way, are kept.

    Args:
        generator: draws.
        requests: the arm's pictures.
        out_dir: the evaluation's folder.
        batch_size: pictures drawn at once.
        advance: called with the number of pictures just done.

    Raises:
        SgfluxError: if the generator does not give one picture a request.
    """
    missing: list[PictureRequest] = []
    replaced = 0
    for request in requests:
        path = out_dir / picture_path(request)
        if not path.exists():
            missing.append(request)
            continue
        try:
            pixels, info = read_picture(path)
        except SgfluxError:
            missing.append(request)  # interrupted or damaged
            continue
        if _comparable(info) == _comparable(_full_record(generator, request, pixels)):
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
            record = _full_record(generator, request, picture)
            save_picture(out_dir / picture_path(request), picture, record)
        advance(len(batch))
    reused = len(requests) - len(missing)
    return DrawingCount(drawn=len(missing) - replaced, replaced=replaced, reused=reused)


def draw_plan(
    plan: Mapping[Arm, Sequence[PictureRequest]],
    generator: Generator,
    *,
    out_dir: Path,
    batch_size: int,
    companions: Companions,
    show_progress: bool,
) -> tuple[DrawingCount, float]:
    """Draw what is missing of every arm, shared between processes.

    Args:
        plan: Pictures of each arm.
        generator: Generator that draws them.
        out_dir: Folder of the evaluation.
        batch_size: Number of pictures drawn at once.
        companions: Processes that share the work.
        show_progress: Whether to show a bar on stderr.

    Returns:
        Count of what all processes drew, and the seconds that it took.
    """
    make_folder(out_dir)
    if companions.index == 0:
        sweep_pictures(out_dir)
    companions.wait()  # nobody draws what is being swept
    # The batches are those of one process.
    shares = [
        list(chain(*islice(batches(own, batch_size), companions.index, None, companions.count)))
        for own in plan.values()
    ]
    counts = [DrawingCount()]
    started = time.time()
    with progress_bar(sum(map(len, shares)), "pictures", show=show_progress) as advance:
        for requests in shares:
            counts.append(
                draw_arm(
                    generator,
                    requests,
                    out_dir=out_dir,
                    batch_size=batch_size,
                    advance=advance,
                )
            )
    counts = companions.gather(counts)
    seconds = time.time() - started
    return DrawingCount(*map(sum, zip(*counts, strict=True))), seconds


def pixels_digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 of a picture's shape and pixels, in hex."""
    head = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _full_record(
    generator: Generator, request: PictureRequest, pixels: np.ndarray
) -> dict[str, Any]:
    """Return how a picture was made, by which base, and what came of it."""
    record: dict[str, Any] = json.loads(json.dumps(generator.record(request)))
    return {**record, PIXELS_KEY: pixels_digest(pixels)}


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of a record: a base known by its weights may have any name."""
    return {**record, "model": None} if record.get("base") else record


def read_drawn(
    generator: Generator, request: PictureRequest, *, out_dir: Path
) -> tuple[np.ndarray, str]:
    """Read the pixels of a picture and their digest, if it is the one that was asked for.

    Raises:
        SgfluxError: naming the file, if it is missing or damaged, was made otherwise than this
            evaluation makes it, or has other pixels than were drawn.
    """
    path = out_dir / picture_path(request)
    pixels, info = read_picture(path)
    wanted = _full_record(generator, request, pixels)
    found, expected = _comparable(info), _comparable(wanted)
    if found != expected:
        names = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
        raise SgfluxError(
            f"{path} is not the picture that this evaluation drew: {', '.join(names)} differ; "
            "something else has written there. Run the same command again, which draws it anew"
        )
    return pixels, wanted[PIXELS_KEY]


def judge_arm(
    judge: Judge | None,
    generator: Generator,
    requests: Sequence[PictureRequest],
    *,
    out_dir: Path,
    batch_size: int,
    advance: Callable[[int], object] | None = None,
) -> list[JudgedPicture]:
    """Read one arm's pictures from the disk and ask the judge about them, if there is one.

    Args:
        judge: The judge.
        generator: Generator that drew the pictures.
        requests: Requests of the arm's pictures.
        out_dir: Folder of the evaluation.
        batch_size: Number of pictures read at once.
        advance: Called with the number of pictures just read.

    Raises:
        SgfluxError: as :func:`read_drawn`: nothing else than what was asked for is judged.
    """
    judged = []
    for batch in batches(requests, batch_size):
        readings: Sequence[Reading | None] = [None] * len(batch)
        drawn = [read_drawn(generator, request, out_dir=out_dir) for request in batch]
        if judge is not None:
            pictures = [pixels for pixels, _ in drawn]
            readings = read_questions(judge, pictures, [questions_about(r) for r in batch])
        for request, reading, (_, digest) in zip(batch, readings, drawn, strict=True):
            judged.append(JudgedPicture(request, picture_path(request), reading, digest))
        if advance is not None:
            advance(len(batch))
    return judged


PairDistance = Callable[[np.ndarray, np.ndarray], float]
"""Distance between two pictures, (H, W, 3) uint8 each."""


def pixel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of two pictures, from 0 to 1."""
    return float(np.abs(one.astype(np.float32) - other).mean() / 255)


def pair_distances(
    pairs: Iterable[tuple[JudgedPicture, JudgedPicture]],
    *,
    out_dir: Path,
    distance: PairDistance = pixel_distance,
) -> list[float]:
    """Return the distance between the two pictures of each pair.

    Raises:
        SgfluxError: naming the file, if a picture is not the one that was judged.
    """
    return [distance(as_judged(one, out_dir), as_judged(other, out_dir)) for one, other in pairs]


def as_judged(picture: JudgedPicture, out_dir: Path) -> np.ndarray:
    """Read a picture, (H, W, 3) uint8, that was judged.

    Raises:
        SgfluxError: naming the file, if it has changed since.
    """
    path = out_dir / picture.path
    pixels, _ = read_picture(path)
    if picture.pixels not in (None, pixels_digest(pixels)):
        raise SgfluxError(f"{path} {CHANGED_SINCE}")
    return pixels
