"""The ranker 'saliency': a frozen classifier that reads the model's attention to the words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgflux.graphs.scene_graph import Triple
from sgflux.models.name_features import NameFeatures
from sgflux.models.relation_classifier import SaliencyRelationClassifier
from sgflux.training.objective import Branches
from sgflux.training.terms.ranking.negatives import Contrast
from sgflux.training.terms.ranking.ranker import paired_costs, surprise
from sgflux.training.terms.term import ConceptWords, Schedule


class SaliencyRanker:
    """The cost of a statement is its -log p on the maps of its parts and of every predicate."""

    temperature = 1.0
    ceiling = 4.0

    def __init__(self, classifier: SaliencyRelationClassifier) -> None:
        """Keep the classifier."""
        self._classifier = classifier

    def concepts(self, read: Schedule) -> ConceptWords | None:
        """Subject, object and all predicates of the statement that is ranked."""
        classifier = self._classifier
        return ConceptWords(
            read=read,
            predicates=classifier.predicates,
            blocks=classifier.blocks,
            of_contrast=True,
        )

    def costs(
        self,
        branches: Branches,
        contrasts: Sequence[Sequence[Contrast]],
        names: NameFeatures,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """As :func:`~sgflux.training.terms.ranking.ranker.paired_costs`.

        The maps are those of the first (and only) contrast's true statement; a false one with the
        roles swapped reads them with subject and object exchanged.
        """
        (own,) = contrasts
        rows, columns = branches.network.grid(branches.noisy)

        def cost(branch: int, statements: Sequence[Triple]) -> Tensor:
            assert branches.maps is not None, "the term's needs ask for concepts"
            maps = branches.maps[branch]
            swapped = torch.tensor(
                [one.subject != o.true.subject for one, o in zip(statements, own, strict=True)],
                device=maps.device,
            )
            ends = torch.where(swapped[:, None, None], maps[:, :2].flip(1), maps[:, :2])
            maps = torch.cat([ends, maps[:, 2:]], dim=1).unflatten(2, (rows, columns))
            return surprise(self._classifier(maps), self._classifier.predicates, statements)

        return paired_costs(branches, contrasts, cost)
