"""When a relation holds between two boxes: one rule a predicate, y down, lengths in pixels.

The rules were chosen on 409 statements about photographs that people judged (docs/judges.md).

Sources: GenEval's rule of positions is that of Ghosh et al. 2023, arXiv:2310.11513, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sgflux.data.boxes import Box
from sgflux.graphs.predicates import DEFAULT_VOCABULARY

Rule = Callable[[Box, Box, float], bool]
"""Whether the relation holds: of the subject's box, the object's box, the picture's diagonal."""

_MARGIN = 0.1  # of the summed sizes, by which GenEval's centers must differ
_SHARE = 0.5  # of the centers' distance, which the difference beyond the margin must exceed


def _direction(subject: Box, object_: Box) -> tuple[float, float]:
    """Return how far the subject lies to the right and below, each from -1 to 1 (GenEval).

    That is the difference of the centers beyond a margin, by the centers' distance.
    """
    offsets = [mine - other for mine, other in zip(subject.center, object_.center, strict=True)]
    sizes = (subject.width + object_.width, subject.height + object_.height)
    beyond = [
        math.copysign(max(abs(offset) - _MARGIN * size, 0.0), offset)
        for offset, size in zip(offsets, sizes, strict=True)
    ]
    distance = math.hypot(*offsets)
    return (beyond[0] / distance, beyond[1] / distance) if distance else (0.0, 0.0)


def _columns(subject: Box, object_: Box) -> float:
    """Return the part of the narrower box's width that stands above or below the other box."""
    return subject.overlap(object_)[0] / max(min(subject.width, object_.width), 1e-9)


def _below(subject: Box, object_: Box) -> bool:
    # What people call "under" often overlaps too much for GenEval's margin, whose inverse "above"
    # states the same and must hold with it.
    stands_under = subject.center[1] > object_.center[1] and _columns(subject, object_) >= 0.5
    return stands_under or _direction(subject, object_)[1] > _SHARE


def _on(subject: Box, object_: Box, diagonal: float) -> bool:
    highest, lowest = object_.top - 0.05 * diagonal, object_.bottom + 0.02 * diagonal
    return _columns(subject, object_) >= 0.5 and highest <= subject.bottom <= lowest


def _gap(subject: Box, object_: Box) -> float:
    """Return the distance between the boxes; 0 where they meet."""
    return math.hypot(*(max(-shared, 0.0) for shared in subject.overlap(object_)))


RULES: Mapping[str, Rule] = {
    "left of": lambda a, b, _: _direction(a, b)[0] < -_SHARE,
    "right of": lambda a, b, _: _direction(a, b)[0] > _SHARE,
    "above": lambda a, b, _: _direction(a, b)[1] < -_SHARE,
    "below": lambda a, b, _: _below(a, b),
    "on": _on,
    "in": lambda a, b, _: a.shared_area(b) >= 0.5 * a.area > 0,
    "contains": lambda a, b, _: a.shared_area(b) >= 0.7 * b.area > 0,
    "touching": lambda a, b, _: _gap(a, b) == 0,
    "behind": lambda a, b, _: a.bottom < b.bottom,
    "in front of": lambda a, b, _: a.bottom > b.bottom,
    "around/near": lambda a, b, diagonal: _gap(a, b) <= 0.05 * diagonal,
}
"""Canonical predicate, or "contains", which has no canonical one -> the rule of the subject's box a
and the object's box b."""

_WORDINGS = {"containing": "contains", "contain": "contains"}
"""Wordings of what is no canonical predicate."""


def find_rule(predicate: str) -> Rule | None:
    """Find the rule of a predicate in any wording ("beneath", "at the left side of")."""
    name = DEFAULT_VOCABULARY.normalize(predicate)
    return RULES.get(_WORDINGS.get(name, name))
