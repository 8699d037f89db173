"""Numbers, shares and figures in the files of an evaluation: the types that are checked."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**53)]
Share = Annotated[float, Meta(ge=-1, le=1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Words = Annotated[str, Meta(max_length=100_000)]


class FigureShape(Struct):
    """A share with its interval."""

    value: Share | None = None
    ci95: tuple[Share, Share] | None = None
    n: Count = 0


class LevelShape(Struct):
    """A number without bounds, such as an error, with its interval."""

    value: Number | None = None
    ci95: tuple[Number, Number] | None = None
    n: Count = 0


class DistanceShape(LevelShape):
    """A distance between sets of pictures, and what the true graph's is beyond it."""

    graph_minus_this: LevelShape | None = None


class MacroShape(Struct):
    """The mean over predicates, and each by itself."""

    macro: Share | None = None
    ci95: tuple[Share, Share] | None = None
    n: Count = 0
    predicates: Count = 0
    per_predicate: dict[str, FigureShape] = {}
