"""Judges that do not look at the pictures, each recognised for what it is by its calibration.

If one of these failed, a judge without eyes could be trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgflux.data.boxes import Box
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import (
    Images,
    Judge,
    JudgeIdentity,
    Outcome,
    Reading,
    Verdict,
    predicate_of,
)
from sgflux.evaluation.known.annotated import AnnotatedBoxes
from sgflux.evaluation.known.calibrating import measure
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet, KnownStatement, Source
from sgflux.graphs.scene_graph import SceneGraph, Triple

NAMES = ("cat", "dog", "car", "tree", "boat", "chair")


class Answers:
    """Gives the answers of a function of the picture's bytes and the statement."""

    identity = JudgeIdentity("answers")

    def __init__(self, holds: Callable[[np.ndarray, Triple], bool]) -> None:
        self._holds = holds
        self.seen: list[Any] = []

    def covers(self, predicate: str) -> bool:
        return True

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Refuse none."""

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        self.seen += list(images)
        verdicts = {True: Verdict(Outcome.HOLDS), False: Verdict(Outcome.CONTRADICTED)}
        return [
            Reading({triple: verdicts[self._holds(image, triple)] for triple in own})
            for image, own in zip(images, statements, strict=True)
        ]


@pytest.fixture
def photos(tmp_path: Path) -> KnownSet:
    """36 pictures, each of two objects beside each other; half of what people said is true."""
    pictures = []
    for number in range(36):
        rng = np.random.default_rng(number)
        one, other = rng.permutation(NAMES)[:2]
        path = tmp_path / f"{number:02d}_{one}_left_of_{other}.png"
        Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)).save(path)
        true = Triple(one, "left of", other)
        false = Triple(one, "right of", other)
        people = KnownStatement(*((true, True) if number % 2 else (false, False)), Source.HUMAN)
        pictures.append(
            KnownPicture(
                path=path,
                statements=(KnownStatement(true, True, Source.GEOMETRIC), people),
                objects=((one, Box(0, 8, 16, 16)), (other, Box(44, 8, 16, 16))),
            )
        )
    return KnownSet(pictures, {})


def test_a_judge_that_sees_is_better_than_the_majority(photos: KnownSet) -> None:
    found = measure(GeometryJudge(AnnotatedBoxes(photos.pictures)), photos)
    assert found["human"]["agreement"] == 1
    assert found["geometric"]["swapped_accepted"] == found["geometric"]["foreign_accepted"] == 0
    assert found["geometric"]["coverage"] == 1
    assert found["standing"]["left of"]["better_than_majority"] == "yes"


def assert_recognised(found: dict[str, Any], *, swapped: float, foreign: float) -> None:
    geometric = found["geometric"]
    assert geometric["confirmed"] == 1, "it looks perfect on what is true"
    assert geometric["swapped_accepted"] == swapped
    assert geometric["foreign_accepted"] == foreign


def test_a_judge_that_always_says_yes(photos: KnownSet) -> None:
    found = measure(Answers(lambda image, triple: True), photos)
    assert_recognised(found, swapped=1, foreign=1)
    assert found["human"]["agreement"] == found["human"]["majority"] == 0.5
    assert found["human"]["better_than_majority"] == "no"
    assert found["geometric"]["better_than_majority"] == "no"


def test_a_judge_that_reads_file_names(photos: KnownSet) -> None:
    """It looks the picture up on the disk and accepts what its name speaks of."""

    def digest(pixels: np.ndarray) -> bytes:
        return hashlib.sha256(pixels.tobytes()).digest()

    names = {digest(np.asarray(Image.open(p.path))): p.path.stem for p in photos.pictures}

    def in_the_name(image: np.ndarray, triple: Triple) -> bool:
        words = names[digest(image)].split("_")
        return {triple.subject, *predicate_of(triple).split(), triple.object} <= set(words)

    judge = Answers(in_the_name)
    assert_recognised(measure(judge, photos), swapped=1, foreign=0)
    assert {type(image) for image in judge.seen} == {np.ndarray}, "pixels alone, without a name"


def test_a_judge_that_knows_the_statements_by_heart(photos: KnownSet) -> None:
    """It has read the annotations and does not look whose picture it is."""
    true = {s.triple for p in photos.pictures for s in p.statements if s.is_true}
    found = measure(Answers(lambda image, triple: triple in true), photos)
    assert found["geometric"]["confirmed"] == 1
    assert found["geometric"]["foreign_accepted"] == 1


def test_a_judge_that_always_says_no(photos: KnownSet) -> None:
    judge: Judge = Answers(lambda image, triple: False)
    found = measure(judge, photos)
    assert found["geometric"]["contradicted"] == 1
    assert found["human"]["better_than_majority"] == "no"
    assert found["standing"]["left of"]["better_than_majority"] != "yes"
