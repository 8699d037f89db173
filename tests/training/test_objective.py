"""One forward for the true graphs and all negative ones: the same as each of them alone.

If one of these failed, the ranking loss would compare the true graph with negatives under other
conditions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sgflux.graphs.names import graph_names
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel, adapter_disabled
from sgflux.training.batches.batch import Batch
from sgflux.training.objective import Concepts, FlowMatchingObjective
from sgflux.training.terms.words import told_in_words
from tests.helpers.models import perturbed_model

GRAPHS = [SceneGraph.parse("man, riding, horse"), SceneGraph.parse("cat, on, box; box, in, car")]
SWAPPED = [SceneGraph.parse("horse, riding, man"), SceneGraph.parse("box, on, cat; box, in, car")]
OTHERS = [SceneGraph.parse("man, on, horse"), SceneGraph.parse("cat, in, box; box, in, car")]
NOTHING = (SceneGraph.null(), SceneGraph.null())
WORDS = graph_names([*GRAPHS, *SWAPPED, *OTHERS])


@pytest.fixture(scope="module")
def model() -> GraphLoraModel:
    return perturbed_model(WORDS)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Batch(
        graphs=tuple(GRAPHS),
        latents=draw(2, 16, 4, 4),
        noise=draw(2, 16, 4, 4),
        sigma=torch.tensor([0.3, 0.8]),
        text={"hidden": draw(2, 6, 32), "pooled": draw(2, 24)},
    )


def objective(model: GraphLoraModel) -> FlowMatchingObjective:
    return FlowMatchingObjective(
        model, dtype=torch.float32, guidance=None, gradient_checkpointing=False
    )


def test_the_branches_of_a_step_are_each_as_alone(
    model: GraphLoraModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = torch.stack(objective(model)(batch, [GRAPHS, SWAPPED, OTHERS]))
    runs = []
    original = model.flux.prefix

    def counting(inputs: Any, **options: Any) -> Any:
        runs.append(inputs.hidden_states.shape[0])
        return original(inputs, **options)

    monkeypatch.setattr(model.flux, "prefix", counting)
    together = objective(model).branches(batch, [SWAPPED, OTHERS])
    torch.testing.assert_close(together.errors, alone, rtol=1e-4, atol=1e-6)
    assert runs == [2], "the frozen prefix runs once, for the batch and not for its branches"
    assert (together.errors[0] - together.errors[1]).abs().min() > 1e-5, "the direction counts"


def test_concepts_look_on_and_change_nothing(model: GraphLoraModel, batch: Batch) -> None:
    generator = torch.Generator().manual_seed(2)
    concepts = Concepts(
        states=torch.randn(2, 3, 32, generator=generator),
        text={"pooled": torch.randn(2, 24, generator=generator)},
        blocks=(1, 3),
    )
    plain = objective(model).branches(batch, [SWAPPED])
    watched = objective(model).branches(batch, [SWAPPED], concepts=concepts)
    assert torch.equal(plain.velocity, watched.velocity)
    assert watched.maps is not None
    assert watched.maps.shape == (2, 2, 3, 4)
    torch.testing.assert_close(watched.maps.sum(dim=2), torch.ones(2, 2, 4))


def test_the_velocity_in_words_is_the_bases_own(model: GraphLoraModel, batch: Batch) -> None:
    other = {name: torch.randn_like(own) for name, own in batch.text.items()}
    told = replace(batch, text=other)
    velocity = objective(model).base_velocity(told_in_words(batch, other))
    assert not velocity.requires_grad
    with adapter_disabled(model):
        base = objective(model).branches(replace(told, graphs=NOTHING), []).velocity[0]
    torch.testing.assert_close(velocity, base)
    assert not torch.allclose(velocity, objective(model).branches(told, []).velocity[0])
    own = objective(model).base_velocity(batch)
    assert not torch.allclose(velocity, own)
    dropped = replace(batch, graphs=(GRAPHS[0], SceneGraph.null()))
    mixed = objective(model).base_velocity(told_in_words(dropped, other))
    torch.testing.assert_close(mixed, torch.stack([velocity[0], own[1]]))


def test_the_anchor_is_the_distance_from_the_base(model: GraphLoraModel, batch: Batch) -> None:
    sigma = torch.tensor([1.0, 0.25])
    errors = objective(model).anchor_errors(batch, sigma)
    assert errors.min() > 0
    # Without a graph LoRA alone is what moves it: an anchor against the adapter itself would be 0.
    moved = replace(batch, graphs=NOTHING, sigma=sigma)
    own = objective(model).branches(moved, []).velocity[0]
    with adapter_disabled(model):
        base = objective(model).branches(moved, []).velocity[0]
    by_hand = (own - base).square().mean(dim=(1, 2))
    assert by_hand.min() > 0
    torch.testing.assert_close(objective(model).anchor_errors(moved, sigma), by_hand)
    errors.sum().backward()
    assert any(p.grad is not None for p in model.trainable_parameters().values())
    model.zero_grad()
