"""How badly a graph goes with a picture: the protocol of rankers, and what they share.

A ranker gives every pair of a true graph and a negative two costs; the ranking loss makes the
second the higher one.

Shapes: B examples, K negatives of each, n statements, P predicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import Triple
from sgflux.models.name_features import NameFeatures
from sgflux.training.objective import Branches
from sgflux.training.terms.ranking.negatives import Contrast
from sgflux.training.terms.term import ConceptWords, Schedule


class Ranker(Protocol):
    """How badly a graph goes with a picture.

    Attributes:
        temperature: Factor of the logistic form, where the user gives none.
        ceiling: Ceiling of the logistic form, where the user gives none.
    """

    temperature: float
    ceiling: float

    def concepts(self, read: Schedule) -> ConceptWords | None:
        """Words whose maps the ranker reads while the term has this schedule."""

    def costs(
        self, branches: Branches, contrasts: Sequence[Sequence[Contrast]], names: NameFeatures
    ) -> tuple[Tensor, Tensor]:
        """Costs of the true graph and of the negative, each (K, B) float32.

        Args:
            branches: The model's answers.
            contrasts: K lists of B contrasts.
            names: Features of the graphs' words.
        """


def paired_costs(
    branches: Branches,
    contrasts: Sequence[Sequence[Contrast]],
    cost: Callable[[int, Sequence[Triple]], Tensor],
) -> tuple[Tensor, Tensor]:
    """Costs by a classifier, each (K, B).

    Where the negatives went through the network, the true statement's cost on both
    pictures; otherwise the costs of both statements on the picture under the true graph.

    Args:
        branches: The model's answers.
        contrasts: K lists of B contrasts.
        cost: Number of a branch and B statements -> their costs, (B,).
    """
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


def surprise(logits: Tensor, predicates: Sequence[str], statements: Sequence[Triple]) -> Tensor:
    """-log p of each statement's predicate, (n,).

    Args:
        logits: A classifier's answers, (n, P).
        predicates: The P classes of the classifier.
        statements: The n statements.
    """
    place = {predicate: number for number, predicate in enumerate(predicates)}
    labels = [place[DEFAULT_VOCABULARY.normalize(one.predicate)] for one in statements]
    index = torch.tensor(labels, device=logits.device)[:, None]
    return -logits.log_softmax(dim=1).gather(1, index)[:, 0]
