"""e(g): the error of the velocity, on the same latents, noise and sigma for every graph.

If one of these failed, graphs would be ranked by errors that were measured on different latents,
noise or noise levels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgflux.bases.flux1.latents import image_ids, pack_latents, text_ids
from sgflux.bases.flux1.network import FluxInputs
from sgflux.flow_matching import noise_latents
from sgflux.graphs.names import graph_names
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.errors import ranking_errors_of_each
from tests.helpers.models import perturbed_model

GRAPHS = [SceneGraph.parse("man, riding, horse"), SceneGraph.parse("cat, on, box; box, in, car")]
SWAPPED = [SceneGraph.parse("horse, riding, man"), SceneGraph.parse("box, on, cat; box, in, car")]
NULLS = [SceneGraph.null(), SceneGraph.null()]
WORDS = graph_names([*GRAPHS, *SWAPPED])


@pytest.fixture(scope="module")
def model() -> GraphLoraModel:
    return perturbed_model(WORDS)


def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "latents": draw(2, 16, 4, 4),
        "noise": draw(2, 16, 4, 4),
        "sigma": torch.tensor([0.3, 0.8]),
        "text": {"hidden": draw(2, 6, 32), "pooled": draw(2, 24)},
    }


def test_the_error_is_that_of_the_models_velocity(model: GraphLoraModel) -> None:
    given = inputs()
    latents, noise, sigma = given["latents"], given["noise"], given["sigma"]
    text = given["text"]
    by_name = FluxInputs(
        hidden_states=pack_latents(noise_latents(latents, noise, sigma)),
        encoder_hidden_states=text["hidden"],
        pooled_projections=text["pooled"],
        timestep=sigma,
        img_ids=image_ids(2, 2),
        txt_ids=text_ids(6),
    )
    with torch.no_grad():
        velocity = model(GRAPHS, by_name)
    by_hand = (velocity - pack_latents(noise - latents)).square().mean(dim=(1, 2))
    (errors,) = ranking_errors_of_each(model, alternatives=[GRAPHS], **given)
    assert errors.shape == (2,)
    assert errors.dtype == torch.float32
    assert not errors.requires_grad
    assert torch.allclose(errors, by_hand, rtol=1e-5)


def test_alternatives_together_are_each_as_alone(model: GraphLoraModel) -> None:
    together = ranking_errors_of_each(model, alternatives=[GRAPHS, SWAPPED, NULLS], **inputs())
    for graphs, errors in zip([GRAPHS, SWAPPED, NULLS], together, strict=True):
        (alone,) = ranking_errors_of_each(model, alternatives=[graphs], **inputs())
        assert torch.equal(errors, alone)
    assert not torch.equal(together[0], together[1]), "the direction of the graph counts"
    assert not torch.equal(together[0], together[2])


def test_as_many_graphs_as_examples(model: GraphLoraModel) -> None:
    with pytest.raises(ValueError, match="1 graphs for 2"):
        ranking_errors_of_each(model, alternatives=[GRAPHS[:1]], **inputs())
