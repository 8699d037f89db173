"""Lines of ``results.jsonl`` and of ``metrics.jsonl``: the types that are checked.

What a newer or older version has beside them is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.figure_shapes import Count, Number, Share, Words


class ScoreShape(Struct):
    """What the judge said of one pair."""

    subject: Words
    object: Words
    log_probabilities: Annotated[list[float], Meta(min_length=1)]


class BoxShape(Struct):
    """Where the judge found an object: left, top, width and height in pixels."""

    box: tuple[Number, Number, Number, Number]


class ReadingShape(Struct):
    """What else the judge said of one picture: scores of classes, objects, boxes by their labels.

    Of several judges, each one's evidence stands under its name in ``judges``.
    """

    scores: list[ScoreShape] = []
    present: list[Words] | None = None
    boxes: dict[str, BoxShape] = {}
    judges: dict[str, ReadingShape] = {}

    @property
    def parts(self) -> list[ReadingShape]:
        """The evidence of each judge."""
        return [self, *self.judges.values()]


class StatementShape(Struct):
    """The verdict on one statement."""

    statement: tuple[Words, Words, Words]
    verdict: Literal["holds", "contradicted", "not found", "not covered"]
    relation: Words | None = None
    score: Number | None = None


class VerdictShape(Struct):
    """The verdicts on one picture; files of earlier versions have the judge's scores alone."""

    verdicts: list[StatementShape] | None = None


class PictureShape(Struct):
    """One line of ``results.jsonl``."""

    row: Count
    arm: Arm
    repeat: Count
    path: Words
    image_rel_path: Words
    prompt: Words
    graph: dict[str, Any] | None
    statements: Annotated[list[tuple[Words, Words, Words]], Meta(min_length=1)]
    judge: ReadingShape | None
    verdict: VerdictShape | None = None
    pixels_sha256: str | None = None
    seed: int | None = None


class MetricsShape(Struct):
    """One line of a training's ``metrics.jsonl``."""

    step: Count
    kind: str = ""
    loss: Number | None = None
    loss_null: Number | None = None
    loss_negative: Number | None = None
    ranking_accuracy: Share | None = None
    ranking_by_kind: dict[str, Share | None] | None = None
    obeyed: Share | None = None
    contradicted: Share | None = None
    not_found: Share | None = None
