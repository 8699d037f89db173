"""The base's gate: what is counted, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from sgflux.data.pictures import INFO_KEY
from sgflux.data.world import PREDICATES
from sgflux.evaluation.base_gate import TARGETS, MeasureBaseConfig, measure_base


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
    assert 0 <= last["two_triples_unordered"] <= 1
    assert set(last["per_predicate"]) == set(PREDICATES)
    # One step from pure noise is a blur; the bundled base draws most relations in four.
    assert figures["1_steps"]["relation"] < 0.5 < last["relation"]
    assert last["neutral_relation"] < 0.25
    for name, target in TARGETS.items():
        gate = figures["gate"][name]
        assert gate == {"value": last[name], "target": target, "passed": last[name] >= target}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert json.loads(sheet.info[INFO_KEY])["steps"] == 4
