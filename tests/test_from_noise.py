"""Drawings that begin at real pictures with noise on them: whose pictures they are, and the table.

If one of these failed, the figures would say of a noise level what is true of another one, or of
another picture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from from_noise import COLUMNS, all_right, as_markdown, draw_from, measure

from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.images import load_image
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.world.dataset import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "world"
    write_world(folder, train_per_class=0, val_per_class=0, test_per_class=1, triples="3,4", seed=5)
    return folder / "test.jsonl"


@pytest.fixture(scope="module")
def two(world: Path) -> list[SceneExample]:
    return list(read_examples(world))[:2]


def test_what_is_drawn_begins_at_the_pictures_of_its_rows(two: list[SceneExample]) -> None:
    """Two latents that no text describes stay what they are, where little is left to draw."""
    pipeline = SceneGraphFluxPipeline.from_pretrained("tiny", adapter="tiny")
    latents = torch.stack([torch.full((16, 16, 16), value) for value in (-1.0, 1.0)])
    drawn = {
        step: draw_from(
            step,
            pipeline=pipeline,
            way="base_neutral",
            examples=two,
            layouts=[(), ()],
            latents=latents,
            noise=torch.zeros_like(latents),
            sigmas=[1.0, 0.001],
        ).astype(float)
        for step in (0, 1)
    }
    real = pipeline.autoencoder.decode(latents).permute(0, 2, 3, 1).numpy().astype(float) * 255.0
    far = [[np.abs(one - other).mean() for other in real] for one in drawn[1]]
    assert far[0][0] < far[0][1]
    assert far[1][1] < far[1][0]
    assert np.abs(drawn[1] - real).mean() > 1, "the step that follows is taken"
    assert np.abs(drawn[0] - drawn[1]).mean() > 10, "a drawing from pure noise knows no picture"


def test_a_row_is_right_only_if_all_its_statements_are(world: Path) -> None:
    rows = list(read_examples(world))
    judge = WorldJudgeAdapter.load()
    pictures = np.stack([np.asarray(load_image(world.parent / row.image_rel_path)) for row in rows])
    own = all_right(judge, pictures, rows)
    others = all_right(judge, np.roll(pictures, 1, axis=0), rows)
    assert set(own) == {"3", "4"}
    assert sum(entry["n"] for entry in own.values()) == len(rows)
    assert all(own[size]["value"] > 0.8 > 0.2 > others[size]["value"] for size in own)
    one_wrong = all_right(judge, pictures, [with_a_wrong_statement(row) for row in rows])
    assert all(entry["value"] < 0.2 for entry in one_wrong.values())


def with_a_wrong_statement(row: SceneExample) -> SceneExample:
    """The row with another predicate in a statement that is not its main one."""
    entries = list(row.graph.relationships)
    place = next(i for i, one in enumerate(row.graph.triples()) if one != row.triple)
    subject, predicate, other = entries[place]
    entries[place] = (subject, "riding" if predicate != "riding" else "above", other)
    graph = replace(row.graph, relationships=tuple(entries))
    return replace(row, graph=graph)


def test_the_table_has_a_line_for_every_noise_level(world: Path) -> None:
    record = measure(Path("tiny"), world, steps=2, batch_size=32)
    assert len(record["from"]) == 2
    levels = list(map(float, record["from"]))
    assert levels == sorted(levels)
    assert levels[-1] == 1.0
    text = as_markdown(record)
    for sigma in record["from"]:
        assert text.count(f"\n| {sigma} | ") == 2, "once for three statements and once for four"
    for heading in COLUMNS.values():
        assert text.count(f" {heading} |") == 2


def test_the_table_states_what_was_measured() -> None:
    def share(value: float) -> dict[str, Any]:
        return {"4": {"value": value, "ci95": [value, value], "n": 7}}

    record = {
        "not_drawn": {"real": share(0.99), "autoencoder": share(0.98)},
        "from": {
            "0.263": {
                "graph": share(0.5),
                "base_relational": share(0.25),
                "base_neutral": share(0.125),
            }
        },
    }
    text = as_markdown(record).replace("\N{NO-BREAK SPACE}", " ")
    assert "4 statements, 7 pictures:" in text
    assert (
        "| 0.263 | 50.0 % (50.0 to 50.0) | 25.0 % (25.0 to 25.0) | 12.5 % (12.5 to 12.5) |" in text
    )
    assert "| none: the real pictures | 99.0 % (99.0 to 99.0) |" in text
