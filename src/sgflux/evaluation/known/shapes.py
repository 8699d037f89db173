"""What a judge's calibration holds: the types that are checked."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sgflux.evaluation.figure_shapes import Count, FigureShape, Share, Words


class KnownShape(Struct):
    """How a judge did on known statements; further figures are ignored."""

    n: Count
    majority: Share
    agreement: Share | None = None
    balanced: Share | None = None
    confirmed: Share | None = None
    coverage: Share | None = None
    swapped_accepted: Share | None = None
    foreign_accepted: Share | None = None
    counts: dict[str, Count] = {}
    ci95: dict[str, tuple[Share, Share] | None] = {}


class KnownKindShape(KnownShape):
    """The same of all predicates together and of each by itself."""

    per_predicate: dict[str, KnownShape] = {}
    predicates: list[Words] = []


class StandingShape(FigureShape):
    """How far a judge is trusted about a predicate."""

    better_than_majority: Literal["yes", "no", "open"] = "open"
    source: Words = ""


class CalibratedShape(Struct):
    """The judge that was calibrated."""

    name: Words
    model: Words | None = None
    sha256: Words | None = None


class CalibrationShape(Struct):
    """What ``sgflux eval calibrate`` found."""

    judge: CalibratedShape
    standing: dict[str, StandingShape]
    human: KnownKindShape | None = None
    geometric: KnownKindShape | None = None
    stated: KnownKindShape | None = None
