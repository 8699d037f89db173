"""The frozen classifier that a ranking loss reads, and what it must be for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sgflux.errors import SgfluxError
from sgflux.models.relation_classifier import (
    CARD_FILE,
    WEIGHTS_FILE,
    ClassifierCard,
    RelationClassifier,
    load_classifier,
)


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier with its card.

    Attributes:
        folder: Folder of the classifier.
        model: Frozen weights.
        card: Description and figures of the classifier.
    """

    folder: Path
    model: RelationClassifier
    card: ClassifierCard

    @property
    def files(self) -> dict[str, Path]:
        """Its files, by what messages call them."""
        return {
            "classifier": self.folder / WEIGHTS_FILE,
            "classifier's description": self.folder / CARD_FILE,
        }

    def ready(
        self, reads: Mapping[str, Sequence[str]], *, model_id: str, device: torch.device
    ) -> None:
        """Check that the classifier belongs to the base of a run, and move it to the device.

        Args:
            reads: Kind of classifier -> names that its card may have for what makes its input.
            model_id: Name of the base.
            device: Device of the run.

        Raises:
            SgfluxError: if it was made on another autoencoder or transformer.
        """
        if self.card.reads not in reads[self.card.kind]:
            part = "autoencoder" if self.card.kind == "latent" else "transformer"
            raise SgfluxError(
                f"classifier {str(self.folder)!r} was made on another {part} than {model_id!r} "
                "has; train one on this model"
            )
        self.model.to(device)


def read_classifier(folder: Path, *, ranker: str) -> LoadedClassifier:
    """Load a classifier for a loss.

    Args:
        folder: Folder that `sgflux train-classifier` wrote.
        ranker: Name of the ranker that reads it; 'flow' if only its confusions are used.

    Raises:
        SgfluxError: if the classifier is of another kind than the ranker, or knows nothing.
    """
    model, card = load_classifier(folder)
    card.expect_better_than_chance(folder)
    if ranker not in ("flow", card.kind):
        raise SgfluxError(
            f"classifier {str(folder)!r} is of kind {card.kind!r}, but ranker is {ranker!r}; give "
            "one of that kind"
        )
    return LoadedClassifier(folder, model, card)


def expect_known_predicates(classifier: RelationClassifier, predicates: Sequence[str]) -> None:
    """Check that a classifier can name every predicate that it will be asked about.

    Raises:
        SgfluxError: naming the predicates that it lacks.
    """
    unknown = sorted(set(predicates) - set(classifier.predicates))
    if unknown:
        raise SgfluxError(
            f"the classifier does not know the predicates {unknown} of the training data; train "
            "one on data that has them, or use the ranker 'flow'"
        )
