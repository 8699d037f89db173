"""How the benchmark of saliency maps reads a map against known boxes.

If one of these failed, a map could count as right that lies elsewhere, or the control could be the
map's own box.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from saliency_maps import COLUMNS, METHODS, WAYS, area_under_curve, as_markdown, figures_of, inside

from sgflux.data.boxes import Box
from sgflux.data.examples import SceneExample
from sgflux.graphs.scene_graph import SceneGraph

LEFT, RIGHT = Box(0, 0, 16, 32), Box(48, 16, 16, 32)


def test_a_box_has_the_places_whose_middle_it_holds() -> None:
    expected = np.zeros((4, 4), bool)
    expected[:2, 0] = expected[1:3, 3] = True
    assert np.array_equal(inside([LEFT, None, RIGHT], 4, 64), expected)


def test_the_area_under_the_curve() -> None:
    place = np.array([[True, False], [True, False]])
    assert area_under_curve(np.array([[2.0, 0.0], [3.0, 1.0]]), place) == 1
    assert area_under_curve(np.array([[0.0, 2.0], [1.0, 3.0]]), place) == 0
    assert area_under_curve(np.ones((2, 2)), place) == 0.5
    assert area_under_curve(np.ones((2, 2)), np.ones((2, 2), bool)) is None


def test_each_part_is_read_at_its_own_place() -> None:
    graph = SceneGraph.parse("dog, left of, box; box, above, tree")
    tree = Box(16, 48, 16, 16)
    (triple, _) = graph.triples()
    example = SceneExample(
        prompt="",
        concepts=(),
        triple=triple,
        graph=graph,
        boxes=(LEFT, RIGHT, tree),
        meta={"image_rel_path": "a.png"},
    )
    own = [inside([box], 4, 64).astype(float) for box in (LEFT, RIGHT, tree)]
    maps = np.stack(
        [
            np.stack([own[0], own[0] + own[1], own[1]]),
            np.stack([own[1], own[1] + own[2], own[2]]),
        ]
    )
    found: dict[str, list[float]] = {}
    for name, value in figures_of(maps, example, 64):
        found.setdefault(name, []).append(value)
    assert set(found) == set(COLUMNS)
    assert found["object"] == found["pointing"] == [1, 1, 1, 1]
    assert found["predicate"] == [1, 1]
    assert all(value < 0.5 for value in found["object_control"] + found["predicate_control"])
    assert found["pointing_control"] == [0, 0, 0, 0]


def test_the_page_has_the_table_of_the_measurement() -> None:
    root = Path(__file__).parents[1]
    record = json.loads((root / "benchmarks/results/saliency_maps.json").read_text())
    assert set(record["maps"]) == set(METHODS)
    assert all(set(ways) == set(WAYS) for ways in record["maps"].values())
    page = (root / "docs/how_it_works.md").read_text(encoding="utf-8")
    assert as_markdown(record) in page
