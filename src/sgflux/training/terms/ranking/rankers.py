"""What says how badly a graph goes with a picture: three rankers behind one interface.

Each gives every pair of a true and a corrupted graph two costs; the ranking loss wants the second
to be the higher one.

Shapes: B examples, K negatives of each, S image tokens, D_text the features of a name, C concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sgflux.bases.flux1.latents import unpack_latents
from sgflux.errors import SgfluxError
from sgflux.flow_matching import denoised
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import Triple
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.relation_classifier import (
    LatentRelationClassifier,
    SaliencyRelationClassifier,
)
from sgflux.training.terms.ranking.negatives import Contrast


@dataclass(frozen=True, eq=False)
class Branches:
    """What the model said of one batch under its true graphs, and under corrupted ones.

    Branch 0 is the true graph; branch k is negative k - 1. There is branch 0 alone where the
    corrupted graphs did not go through the network.

    Attributes:
        noisy: the latents at sigma, (B, 16, h, w).
        sigma: (B,).
        errors: e, (branches, B) float32.
        velocity: packed, (branches, B, S, 64).
        maps: concept probabilities, (branches, B, C, S); None if there are no concepts.
    """

    noisy: Tensor
    sigma: Tensor
    errors: Tensor
    velocity: Tensor
    maps: Tensor | None


class Ranker(Protocol):
    """How badly a graph goes with a picture.

    Attributes:
        temperature: of the logistic form, where the user does not say.
        ceiling: of the logistic form, where the user does not say.
    """

    temperature: float
    ceiling: float

    def costs(
        self, branches: Branches, contrasts: Sequence[Sequence[Contrast]]
    ) -> tuple[Tensor, Tensor]:
        """Costs of the true graph and of the corrupted one, each (K, B) float32.

        Args:
            branches: what the model said.
            contrasts: K lists of B.
        """


class FlowRanker:
    """The model's own error: e(g) itself."""

    temperature = 50.0
    ceiling = 0.05

    def costs(
        self,
        branches: Branches,
        contrasts: Sequence[Sequence[Contrast]],  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """e(g+) and e(g-): the errors say it all."""
        negative = branches.errors[1:]
        return branches.errors[:1].expand_as(negative), negative


class LatentRanker:
    """A frozen classifier that reads the one-step estimate z_sigma - sigma * velocity."""

    temperature = 1.0
    ceiling = 4.0

    def __init__(self, classifier: LatentRelationClassifier, names: NameFeatures) -> None:
        """Keep the parts."""
        self._classifier = classifier
        self._names = names

    def costs(
        self, branches: Branches, contrasts: Sequence[Sequence[Contrast]]
    ) -> tuple[Tensor, Tensor]:
        """-log p of the true statement on both pictures, or of both statements on the true one."""

        def cost(branch: int, statements: Sequence[Triple]) -> Tensor:
            packed = branches.velocity[branch].float()
            velocity = unpack_latents(packed, *branches.noisy.shape[2:])
            picture = denoised(branches.noisy, velocity, branches.sigma)
            device = picture.device
            logits = self._classifier(
                picture,
                self._names.lookup([one.subject for one in statements]).to(device),
                self._names.lookup([one.object for one in statements]).to(device),
            )
            return -_log_probability(logits, self._classifier.predicates, statements)

        return _paired_costs(branches, contrasts, cost)


class SaliencyRanker:
    """A frozen classifier that reads where the model attends to the statement's parts."""

    temperature = 1.0
    ceiling = 4.0

    def __init__(self, classifier: SaliencyRelationClassifier) -> None:
        """Keep the classifier."""
        self._classifier = classifier

    def concepts(self, statement: Triple) -> list[str]:
        """The words whose maps it reads."""
        return [statement.subject, statement.object, *self._classifier.predicates]

    def costs(
        self, branches: Branches, contrasts: Sequence[Sequence[Contrast]]
    ) -> tuple[Tensor, Tensor]:
        """-log p of the true statement on both maps, or of both statements on the true ones.

        The maps are those of the first (and only) contrast's true statement; a false one with the
        roles swapped reads them with subject and object exchanged.
        """
        (own,) = contrasts
        rows, columns = (size // 2 for size in branches.noisy.shape[2:])

        def cost(branch: int, statements: Sequence[Triple]) -> Tensor:
            assert branches.maps is not None, "the terms ask for concepts with this ranker"
            maps = branches.maps[branch]
            swapped = torch.tensor(
                [one.subject != o.true.subject for one, o in zip(statements, own, strict=True)],
                device=maps.device,
            )
            ends = torch.where(swapped[:, None, None], maps[:, :2].flip(1), maps[:, :2])
            maps = torch.cat([ends, maps[:, 2:]], dim=1).unflatten(2, (rows, columns))
            logits = self._classifier(maps)
            return -_log_probability(logits, self._classifier.predicates, statements)

        return _paired_costs(branches, contrasts, cost)


def _paired_costs(
    branches: Branches,
    contrasts: Sequence[Sequence[Contrast]],
    cost: Callable[[int, Sequence[Triple]], Tensor],
) -> tuple[Tensor, Tensor]:
    """Costs from a function of (branch, B statements)."""
    compares_graphs = len(branches.errors) > 1
    positive, negative = [], []
    for number, asked in enumerate(contrasts):
        true = [one.true for one in asked]
        positive.append(cost(0, true))
        if compares_graphs:
            negative.append(cost(number + 1, true))
        else:
            negative.append(cost(0, [one.false or one.true for one in asked]))
    return torch.stack(positive), torch.stack(negative)


def _log_probability(
    logits: Tensor, predicates: Sequence[str], statements: Sequence[Triple]
) -> Tensor:
    """log p of each statement's predicate, (n,)."""
    place = {predicate: number for number, predicate in enumerate(predicates)}
    labels = [place[DEFAULT_VOCABULARY.normalize(one.predicate)] for one in statements]
    index = torch.tensor(labels, device=logits.device)[:, None]
    return logits.log_softmax(dim=1).gather(1, index)[:, 0]


def expect_known_predicates(
    classifier: LatentRelationClassifier | SaliencyRelationClassifier, predicates: Sequence[str]
) -> None:
    """Check that a classifier can name every predicate that it will be asked about.

    Raises:
        SgfluxError: naming those it cannot.
    """
    unknown = sorted(set(predicates) - set(classifier.predicates))
    if unknown:
        raise SgfluxError(
            f"the classifier does not know the predicates {unknown} of the training data; train "
            "one on data that has them, or use the ranker 'flow'"
        )
