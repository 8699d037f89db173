"""How the comparison of ways to draw guides a drawing, chooses a picture and counts.

If one of these failed, a way could draw as another one does, guidance could stay in the model for
the ways after it, or a choice could know which picture is right.
"""

from __future__ import annotations

import numpy as np
import torch
from sampling_choices import CHOICES, WAYS, Way, against, as_markdown, draw, picked, shares

from sgflux.data.examples import SceneExample
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline


def _example(text: str) -> SceneExample:
    graph = SceneGraph.parse(text)
    return SceneExample(
        prompt="",
        concepts=(),
        triple=graph.triples()[0],
        graph=graph,
        meta={"image_rel_path": "a.png"},
    )


def test_guidance_at_some_noise_levels_and_away_from_a_weaker_adapter() -> None:
    pipeline = SceneGraphFluxPipeline.from_pretrained("tiny", adapter="tiny")
    examples = [_example("dog, left of, box; cup, above, box")]

    def drawn(**settings: object) -> np.ndarray:
        return draw(pipeline, Way(steps=2, **settings), examples, [3])  # type: ignore[arg-type]

    plain = drawn()
    scaled = drawn(graph_scale=1.6)
    guided = drawn(graph_scale=1.6, sigmas=(0.0, 0.99))
    weaker = drawn(graph_scale=1.5, weaker=0.8)
    assert not np.array_equal(plain, scaled)
    assert not np.array_equal(guided, plain)
    assert not np.array_equal(guided, scaled)  # the first step, from pure noise, had no scale
    assert not np.array_equal(weaker, plain)
    # A scale everywhere is the product's own, and a scale nowhere is none.
    assert np.array_equal(drawn(graph_scale=1.6, sigmas=(-1.0, 1.0)), scaled)
    assert np.array_equal(drawn(graph_scale=1.6, sigmas=(2.0, 3.0)), plain)
    # An adapter at its own strength leads nowhere.
    assert np.array_equal(drawn(graph_scale=1.5, weaker=1.0), plain)
    assert np.array_equal(drawn(), plain)  # nothing is left in the model


def test_the_picture_of_the_least_error_is_chosen() -> None:
    right = np.array([[True, False], [True, False], [False, False]])
    errors = torch.tensor([0.1, 0.2, 0.4, 0.3, -2.0, -1.0])
    assert picked(right, errors).tolist() == [True, False, False]


def test_shares_and_comparison() -> None:
    found = shares([True, False, True, True], [3, 3, 4, 4])
    assert [found[name]["value"] for name in ("all", "3", "4")] == [0.75, 0.5, 1.0]
    assert found["4"]["n"] == 2
    assert against([True, False, True], [False, True, True]) == {"won": 1, "lost": 1}


def test_the_table_has_a_line_for_every_way_and_choice() -> None:
    right, sizes = [True, False, True], [3, 3, 4]
    one = {"cpu_seconds": 0.5, "shares": shares(right, sizes)}
    other = {**one, "cpu_seconds": 1.0, "against": against(right, [True, True, False])}
    record = {
        "ways": {"first": one, "second": other},
        "choices": {name: shares(right, sizes) for name in CHOICES},
    }
    table = as_markdown(record).splitlines()
    assert table[0] == (
        "| adapter and way | 3 statements | 4 statements | all | won / lost | CPU time |"
    )
    assert [line.split(" | ")[-2:] for line in table[2:4]] == [["–", "1.0 |"], ["1 / 1", "2.0 |"]]
    assert "| first | 50.0\u00a0% (" in table[2]
    assert [line.split(" | ")[0] for line in table[7:]] == [
        f"| {label}" for label in CHOICES.values()
    ]
    assert next(iter(WAYS.values())) == Way(), "others are compared to what is recommended"
