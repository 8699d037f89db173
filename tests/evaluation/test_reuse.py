"""Pictures of an earlier evaluation are kept only where today's would be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.evaluation.arms import Arm, PictureRequest, make_items, plan_pictures
from sgflux.evaluation.drawing import draw_arm
from tests.evaluation.test_arms import example

SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "base": {"transformer": "aaaa"},
    "adapter": "one",
    "graph": {"objects": ["man", "horse"], "relationships": [[0, "riding", 1]]},
    "prompt": "a photo of man and horse",
    "steps": 8,
    "graph_scale": 1.5,
    "guidance": None,
    "height": 64,
    "width": 64,
    "dtype": "fp32",
}


class Recorded:
    """A generator whose record is what the test says; its pictures are black."""

    name = "recorded"

    def __init__(self, **changes: Any) -> None:
        self._settings = {**SETTINGS, **changes}

    def draw(self, requests: Any) -> np.ndarray:
        return np.zeros((len(requests), 64, 64, 3), np.uint8)

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {**self._settings, "seed": request.seed}


@pytest.mark.parametrize("changed", [None, *(name for name in SETTINGS if name != "model")])
def test_a_picture_made_in_another_way_is_drawn_again(tmp_path: Path, changed: str | None) -> None:
    """Kept, it would lend its figure to an adapter, base or setting that never drew it.

    The name by which the model was called is no such thing: the base is compared by its weights.
    """
    items = make_items(
        [example("man, riding, horse"), example("cat, on, box", number=1)], [0, 1], seed=0
    )
    requests = plan_pictures(items, Arm.GRAPH, seeds_per_item=1, seed=0)
    where: dict[str, Any] = {"out_dir": tmp_path, "batch_size": 2, "advance": lambda count: None}
    assert draw_arm(Recorded(), requests, **where).drawn == 2
    changes = {} if changed is None else {changed: "another"}
    count = draw_arm(Recorded(**changes), requests, **where)
    assert (count.reused, count.replaced) == ((2, 0) if changed is None else (0, 2))
