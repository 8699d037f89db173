"""The drawn graphs of docs/: which they are, and what stands below their pictures.

If one of these failed, the sheets would show other graphs than the table, or count wrongly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn_graphs import FIRST, as_table, caption, graphs_to_draw, write_sheet
from PIL import Image

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.shapes import shape_of


def test_the_graphs_are_fixed_by_their_seed_and_hard() -> None:
    first, *others = graphs = graphs_to_draw()
    assert first.to_text() == FIRST
    assert shape_of(first) == "fork of 4 with twins: end and end, 2 apart"
    assert graphs == graphs_to_draw() != graphs_to_draw(seed=1)
    assert len(others) == 5
    assert {len(graph.relationships) for graph in others} == {3, 4}
    assert sum(graph.labels() != graph.objects for graph in others) == 3
    for graph in graphs:
        assert SceneGraph.parse(graph.to_text()) == graph, "a reader can type what was drawn"


def test_a_caption_names_what_does_not_hold() -> None:
    graph = SceneGraph.parse("dog, left of, horse; dog#2, right of, horse")
    assert caption(graph, 4, [True, True]) == "seed 4: all 2 hold"
    assert caption(graph, 5, [True, False]) == "seed 5: 1 of 2, not dog#2 right of horse"
    assert caption(graph, 6, [False, False]) == "seed 6: none of 2 holds"


def test_the_table_counts_pictures_and_statements() -> None:
    one = {
        "graph": "g",
        "shape": "pair",
        "held_out_shape": True,
        "holds": [[True, True], [True, False]],
    }
    line = as_table({"graphs": [one]}).splitlines()[-1]
    assert line == "| g | pair (held out) | 1 of 2 | 3 of 4 |"


def test_a_sheet_is_a_small_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    pictures = shapes.repeat(8, axis=1).repeat(8, axis=2)
    path = tmp_path / "figures" / "sheet.webp"
    write_sheet(path, pictures, ["seed 0: all 4 hold"] * 10)
    assert path.stat().st_size < 150_000
    with Image.open(path) as sheet:
        assert sheet.width > 5 * 3 * 64
