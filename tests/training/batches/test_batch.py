"""What one forward pass learns from: drawn from the generator alone, in the stated proportions.

If one of these failed, a batch would depend on something else than its generator, or show texts
and graphs in other proportions than asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.cache.tensor_rows import MemoryRows
from sgflux.data.prompts import PROMPT_KINDS
from sgflux.training.batches.batch import Batch, LatentScale, draw_batch
from sgflux.training.randomness import generator_for
from tests.helpers.scenes import example


@pytest.fixture(scope="module")
def arrays() -> TrainingArrays:
    """Two examples; their latents are 1 and 2 with no spread; text n is the number n."""
    return TrainingArrays(
        examples=(example(0, split="train"), example(1, split="train")),
        latents=MemoryRows(
            {
                "mean": torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 16, 2, 2).bfloat16(),
                "std": torch.zeros(2, 16, 2, 2).bfloat16(),
            }
        ),
        image_index=torch.tensor([0, 1]),
        prompts=("r0", "n0", "", "r1", "n1", "c0", "c1"),
        texts=MemoryRows(
            {
                "hidden": torch.arange(7.0).view(7, 1, 1).bfloat16(),
                "pooled": torch.arange(7.0).view(7, 1).bfloat16(),
            }
        ),
        prompt_index=torch.tensor([[0, 1, 2, 5], [3, 4, 2, 6]]),
    )


def draw(arrays: TrainingArrays, rows: list[int], *, step: int = 0, **changes: Any) -> Batch:
    settings: dict[str, Any] = {
        "latent_scale": LatentScale(shift=0.5, scale=2.0),
        "prompt_weights": {"neutral": 1.0},
        "null_graph_probability": 0.0,
        "sigma_scheme": "uniform",
        "t_min": 0.25,
        "t_max": 0.5,
        "generator": generator_for(0, "batch", step),
    }
    return draw_batch(arrays, rows, **{**settings, **changes})


def test_latents_are_shifted_and_scaled_and_sigma_lies_in_its_range(arrays: TrainingArrays) -> None:
    batch = draw(arrays, [1, 0, 1])
    assert batch.latents[:, 0, 0, 0].tolist() == [3.0, 1.0, 3.0]
    assert batch.latents.dtype == batch.sigma.dtype == torch.float32
    assert ((batch.sigma >= 0.25) & (batch.sigma <= 0.5)).all()
    assert list(batch.graphs) == [arrays.examples[row].graph for row in (1, 0, 1)]
    assert batch.text["hidden"].flatten().tolist() == [4.0, 1.0, 4.0]


def test_the_posterior_is_sampled_anew(arrays: TrainingArrays) -> None:
    stored = arrays.latents.rows(torch.arange(2))
    ones = MemoryRows({**stored, "std": torch.ones_like(stored["std"])})
    spread = replace(arrays, latents=ones)
    first, second = (draw(spread, [0] * 50, step=step).latents for step in (0, 1))
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(1.0, abs=0.2)
    assert first.std().item() == pytest.approx(2.0, abs=0.2)  # the scale applies to the spread too


def test_equal_generators_give_equal_batches(arrays: TrainingArrays) -> None:
    first, again, other = (draw(arrays, [0, 1], step=step) for step in (3, 3, 4))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.sigma, again.sigma)
    assert not torch.equal(first.noise, other.noise)


def test_graphs_and_texts_come_in_the_proportions_asked_for(arrays: TrainingArrays) -> None:
    batch = draw(
        arrays,
        [0] * 2000,
        null_graph_probability=0.25,
        prompt_weights={"neutral": 1.0, "relational": 2.0, "empty": 1.0},
    )
    nulls = sum(graph.is_null for graph in batch.graphs) / 2000
    assert nulls == pytest.approx(0.25, abs=0.03)
    counts = torch.bincount(batch.text["pooled"].flatten().long(), minlength=3) / 2000
    shares = dict(zip(PROMPT_KINDS, counts.tolist(), strict=False))
    assert shares == pytest.approx({"relational": 0.5, "neutral": 0.25, "empty": 0.25}, abs=0.04)


def test_a_text_that_contradicts_the_graph_goes_with_a_graph_only(arrays: TrainingArrays) -> None:
    batch = draw(
        arrays,
        [1] * 400,
        null_graph_probability=0.5,
        prompt_weights={"contradicting": 1.0},
    )
    pairs = zip(batch.graphs, batch.text["pooled"], strict=True)
    told = {(graph.is_null, int(text)) for graph, text in pairs}
    assert told == {(False, 6), (True, 4)}


def test_a_batch_on_the_cpu_is_not_copied(arrays: TrainingArrays) -> None:
    batch = draw(arrays, [0])
    assert batch.to(torch.device("cpu")) is batch
