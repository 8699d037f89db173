"""Damaged JSON for property tests: one value of a valid text is replaced, removed or added."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -3.5, 1e300, 5e-324),
    *("", "x", "\u2028", "\x00", "../..", "graph", "9" * 50, "ü" * 300),
    *([], [[]], [1, 2, 3], {}, {"a": 1}, [None], {"value": "x"}, ["a", "b", "c"]),
)

Path = tuple[str | int, ...]


def paths(value: Any, so_far: Path = ()) -> list[Path]:
    """Where all values below ``value`` are."""
    found: list[Path] = []
    if isinstance(value, dict):
        inner: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    else:
        return found
    for key, entry in inner:
        found += [(*so_far, key), *paths(entry, (*so_far, key))]
    return found


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with one to three values changed."""
    result = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = paths(result)
        if not places:
            break
        *above, key = draw(st.sampled_from(places))
        inner = result
        for step in above:
            inner = inner[step]
        if draw(st.integers(0, 3)) == 0:
            del inner[key]
        else:
            inner[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return result
