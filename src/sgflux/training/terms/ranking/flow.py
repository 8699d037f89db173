"""The ranker 'flow': the model's own error under each graph."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sgflux.models.name_features import NameFeatures
from sgflux.training.objective import Branches
from sgflux.training.terms.ranking.negatives import Contrast
from sgflux.training.terms.term import ConceptWords, Schedule


class FlowRanker:
    """The cost of a graph is e(g)."""

    temperature = 50.0
    ceiling = 0.05

    def concepts(self, read: Schedule) -> ConceptWords | None:  # noqa: ARG002
        """The ranker reads no maps."""
        return None

    def costs(
        self,
        branches: Branches,
        contrasts: Sequence[Sequence[Contrast]],  # noqa: ARG002
        names: NameFeatures,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """e(g+) and e(g-), each (K, B)."""
        negative = branches.errors[1:]
        return branches.errors[:1].expand_as(negative), negative
