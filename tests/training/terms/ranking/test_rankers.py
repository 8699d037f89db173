"""What each ranker says a graph costs, on made-up answers of the model.

If one of these failed, a ranker would reward the false graph, or give a gradient where the true
one already wins.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sgflux.bases.flux1.network import FluxNetwork
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.models.name_features import NameFeatures
from sgflux.models.relation_classifier import (
    LatentRelationClassifier,
    SaliencyRelationClassifier,
)
from sgflux.training.objective import Branches
from sgflux.training.terms.ranking.classifier import expect_known_predicates
from sgflux.training.terms.ranking.flow import FlowRanker
from sgflux.training.terms.ranking.latent import LatentRanker
from sgflux.training.terms.ranking.negatives import Contrast
from sgflux.training.terms.ranking.saliency import SaliencyRanker
from sgflux.training.terms.term import Schedule
from tests.helpers.flux import make_transformer

PREDICATES = ("above", "riding")
SWAP = Contrast(
    graph=SceneGraph.parse("horse, riding, man"),
    true=Triple("man", "riding", "horse"),
    false=Triple("horse", "riding", "man"),
)
OTHER = Contrast(
    graph=SceneGraph.parse("man, above, horse"),
    true=Triple("man", "riding", "horse"),
    false=Triple("man", "above", "horse"),
)


class Latent(LatentRelationClassifier):
    """Its logits are (picture's mean, subject's feature)."""

    def forward(self, latents: Tensor, subject: Tensor, object_: Tensor) -> Tensor:
        return torch.stack([latents.mean(dim=(1, 2, 3)), subject[:, 0]], dim=1)


class Saliency(SaliencyRelationClassifier):
    """Its logits are the means of the subject's and the object's map."""

    def forward(self, maps: Tensor) -> Tensor:
        assert maps.shape[2:] == (2, 2)
        return maps[:, :2].mean(dim=(2, 3))


def branches(number: int, *, maps: Tensor | None = None) -> Branches:
    generator = torch.Generator().manual_seed(0)
    return Branches(
        network=FluxNetwork(make_transformer(num_layers=1, num_single_layers=0)),
        noisy=torch.randn(2, 16, 4, 4, generator=generator),
        sigma=torch.tensor([0.5, 0.25]),
        errors=torch.rand(number, 2, generator=generator),
        velocity=torch.zeros(number, 2, 4, 64),
        maps=maps,
    )


def log_odds(a: float, b: float) -> float:
    """-log of the probability of the second of two logits."""
    return math.log(math.exp(a) + math.exp(b)) - b


def test_flow_costs_are_the_errors() -> None:
    given = branches(3)
    positive, negative = FlowRanker().costs(given, [[SWAP, SWAP]] * 2, NameFeatures(1))
    assert torch.equal(positive, given.errors[[0, 0]])
    assert torch.equal(negative, given.errors[1:])


def test_the_latent_ranker_reads_the_one_step_estimate() -> None:
    names = NameFeatures(1)
    names.add(["man", "horse"], torch.tensor([[1.0], [-1.0]]))
    ranker = LatentRanker(Latent(predicates=PREDICATES, text_dim=1, width=8))
    given = branches(1)
    means = given.noisy.mean(dim=(1, 2, 3)).tolist()  # velocity is 0: the estimate is noisy itself
    positive, negative = ranker.costs(given, [[SWAP, OTHER]], names)
    expected = [[log_odds(mean, 1.0) for mean in means]]
    torch.testing.assert_close(positive, torch.tensor(expected))
    # The swapped statement asks about the other thing first; the other predicate is the other one.
    expected = [[log_odds(means[0], -1.0), log_odds(1.0, means[1])]]
    torch.testing.assert_close(negative, torch.tensor(expected))


def test_with_negative_graphs_it_asks_for_the_truth_on_both_pictures() -> None:
    names = NameFeatures(1)
    names.add(["man", "horse"], torch.tensor([[1.0], [-1.0]]))
    ranker = LatentRanker(Latent(predicates=PREDICATES, text_dim=1, width=8))
    given = branches(2)
    given.velocity[1] = 1.0
    _, negative = ranker.costs(given, [[SWAP, OTHER]], names)
    means = (given.noisy.mean(dim=(1, 2, 3)) - given.sigma).tolist()  # z - sigma * 1
    torch.testing.assert_close(negative, torch.tensor([[log_odds(m, 1.0) for m in means]]))


def test_the_saliency_ranker_exchanges_the_maps_of_swapped_roles() -> None:
    maps = torch.tensor([0.2, 0.5, 0.2, 0.1]).expand(1, 2, 4, -1).transpose(2, 3)
    ranker = SaliencyRanker(Saliency(predicates=PREDICATES, blocks=[1], width=8))
    concepts = ranker.concepts(Schedule())
    assert concepts is not None
    assert concepts.of(SWAP.true) == ["man", "horse", "above", "riding"]
    positive, negative = ranker.costs(branches(1, maps=maps), [[SWAP, OTHER]], NameFeatures(1))
    torch.testing.assert_close(positive, torch.tensor([[log_odds(0.2, 0.5)] * 2]))
    expected = [[log_odds(0.5, 0.2), log_odds(0.5, 0.2)]]
    torch.testing.assert_close(negative, torch.tensor(expected))


def test_predicates_that_a_classifier_lacks_are_named() -> None:
    classifier = SaliencyRelationClassifier(predicates=PREDICATES, blocks=[1], width=8)
    with pytest.raises(ValueError, match=r"does not know the predicates \['pulling'\]"):
        expect_known_predicates(classifier, ["riding", "pulling"])
