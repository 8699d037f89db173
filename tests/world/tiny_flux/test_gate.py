"""The base's gate: what is counted, and what it writes.

If one of these failed, a base that cannot draw two statements would pass as fit for adapters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sgflux.data.pictures import INFO_KEY
from sgflux.errors import SgfluxError
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.world.chance import random_drawing
from sgflux.world.scenes import PREDICATES, WorldScene
from sgflux.world.tiny_flux import gate as base_gate
from sgflux.world.tiny_flux.gate import TARGETS, MeasureBaseConfig, measure_base


def test_the_gate_is_judged_on_the_last_number_of_steps(tmp_path: Path) -> None:
    config = MeasureBaseConfig(
        output=tmp_path / "figures.json",
        figure=tmp_path / "sheet.png",
        per_predicate=1,
        two_triples=2,
        steps=(1, 4),
    )
    figures = measure_base(config)
    assert figures == json.loads(config.output.read_text())
    last = figures["4_steps"]
    assert (last["n"], last["two_triples_n"]) == (len(PREDICATES), 2)
    assert set(last["per_predicate"]) == set(PREDICATES)
    # One step from pure noise is a blur; the bundled base draws most relations in four.
    assert figures["1_steps"]["relation"] < 0.5 < last["relation"]
    assert last["neutral_relation"] < 0.25
    assert last["chance"] == random_drawing("world")["value"]
    for name in ("relation", "two_triples", "two_triples_in_reading_order", "neutral_relation"):
        low, high = last["ci95"][name]
        assert low <= last[name] <= high
        assert high - low > 0.05, "few pictures tell little, whatever they show"
    for name, target in TARGETS.items():
        gate = figures["gate"][name]
        assert gate == {"value": last[name], "target": target, "passed": last[name] >= target}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert json.loads(sheet.info[INFO_KEY])["steps"] == 4


def test_two_relations_are_stated_as_they_come_and_in_reading_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[list[str]] = []

    def note(
        self: object, graphs: None, prompts: list[str], *_: object, **__: object
    ) -> np.ndarray:
        captions.append(prompts)
        return np.zeros((len(prompts), 64, 64, 3), np.uint8)

    monkeypatch.setattr(SceneGraphFluxPipeline, "sample_batch", note)
    scene = WorldScene(
        objects=("dog", "box", "cup", "hat"),
        relationships=((0, "left of", 1), (2, "on", 3)),
        boxes=((32, 40, 8, 8), (48, 40, 8, 8), (4, 4, 8, 8), (4, 12, 8, 8)),
        image=np.zeros((64, 64, 3), np.uint8),
    )
    monkeypatch.setattr(base_gate, "sample_scene", lambda *_, **__: scene)
    measure_base(
        MeasureBaseConfig(
            output=tmp_path / "figures.json", per_predicate=1, two_triples=1, steps=(1,)
        )
    )
    assert captions[-2:] == [
        ["a photo of dog left of box and cup on hat"],
        ["a photo of cup on hat and dog left of box"],
    ]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"per_predicate": 0}, "per_predicate must be at least 1, got 0"),
        ({"two_triples": 0}, "two_triples must be at least 1, got 0"),
        ({"steps": ()}, r"steps must hold at least one number, got \(\)"),
        ({"steps": (4, 0)}, "must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_a_measurement_of_nothing_is_refused_before_anything_is_drawn(
    settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SgfluxError, match=named):
        MeasureBaseConfig(**settings)
