"""The ranker 'latent': a frozen classifier that reads the one-step estimate of the picture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sgflux.flow_matching import denoised
from sgflux.graphs.scene_graph import Triple
from sgflux.models.name_features import NameFeatures
from sgflux.models.relation_classifier import LatentRelationClassifier
from sgflux.training.objective import Branches
from sgflux.training.terms.ranking.negatives import Contrast
from sgflux.training.terms.ranking.ranker import paired_costs, surprise
from sgflux.training.terms.term import ConceptWords, Schedule


class LatentRanker:
    """The cost of a statement is its -log p on z_sigma - sigma * velocity."""

    temperature = 1.0
    ceiling = 4.0

    def __init__(self, classifier: LatentRelationClassifier) -> None:
        """Keep the classifier."""
        self._classifier = classifier

    def concepts(self, read: Schedule) -> ConceptWords | None:  # noqa: ARG002
        """The ranker reads no maps."""
        return None

    def costs(
        self, branches: Branches, contrasts: Sequence[Sequence[Contrast]], names: NameFeatures
    ) -> tuple[Tensor, Tensor]:
        """As :func:`~sgflux.training.terms.ranking.ranker.paired_costs`."""

        def cost(branch: int, statements: Sequence[Triple]) -> Tensor:
            packed = branches.velocity[branch].float()
            velocity = branches.network.unpack(packed, *branches.noisy.shape[2:])
            picture = denoised(branches.noisy, velocity, branches.sigma)
            logits = self._classifier(picture, *names.ends(statements, device=picture.device))
            return surprise(logits, self._classifier.predicates, statements)

        return paired_costs(branches, contrasts, cost)
