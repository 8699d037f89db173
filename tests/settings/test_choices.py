"""The choices of a setting are those that the code knows.

Broken, a flag would offer a name that a run does not know, or hide one that it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import get_args

import pytest

from sgflux.evaluation.arms import Arm
from sgflux.graphs.negatives import NegativeKind
from sgflux.settings.caching import CacheConfig
from sgflux.settings.classifier import ClassifierKind
from sgflux.settings.evaluation import ARM_NAMES, EvalConfig
from sgflux.settings.flat import flat_hints
from sgflux.settings.losses import NegativeMix, RankerKind
from sgflux.training.terms.ranking.ranking import RANKERS
from sgflux.world.generators import WORLD_GENERATORS


@pytest.mark.parametrize(
    ("choices", "known"),
    [
        (get_args(RankerKind), RANKERS),
        (get_args(RankerKind), ("flow", *get_args(ClassifierKind))),
        ([entry.name for entry in fields(NegativeMix)], NegativeKind),
        (get_args(get_args(flat_hints(CacheConfig)["negatives"])[0]), NegativeKind),
        (ARM_NAMES, Arm),
        (get_args(flat_hints(EvalConfig)["generator"]), ("model", *WORLD_GENERATORS)),
    ],
)
def test_a_setting_offers_what_the_code_knows(choices: Iterable[str], known: Iterable[str]) -> None:
    assert list(choices) == list(known)
