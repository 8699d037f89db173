"""The splits of a world's data set, and the random streams that decide what they hold.

Each stream is keyed by what it decides, so that no part of a data set depends on how much was drawn
for another one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SPLITS: dict[str, str] = {"train": "train", "validation": "val", "test": "test"}
"""Name of a split (and of its file) -> what ``meta.h5_split`` calls it."""


class Stream(IntEnum):
    """What a random stream decides. Its number is part of the stream's key and must stay."""

    HELD_OUT_PAIRS = 0
    ORDER = 1
    ROW = 2
    SHAPES = 3


def stream(seed: int, what: Stream, *key: int) -> np.random.Generator:
    """Return a generator at the start of a random stream.

    Args:
        seed: Seed of the data set.
        what: Decision that the stream is for.
        key: Numbers that tell streams of one kind apart.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(what, *key)))


def stream_of_split(seed: int, what: Stream, split: str, *key: int) -> np.random.Generator:
    """Return a generator at the start of a stream of one split; see :func:`stream`."""
    return stream(seed, what, list(SPLITS).index(split), *key)
