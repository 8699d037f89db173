"""What the further loss terms of a run are built from: negatives, a classifier, regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sgflux.data.buckets import Size
from sgflux.data.examples import SceneExample
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import vocabulary_of
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.relation_classifier import (
    ClassifierCard,
    LatentRelationClassifier,
    RelationClassifier,
    SaliencyRelationClassifier,
    load_classifier,
)
from sgflux.models.saliency import check_concept_blocks, default_concept_blocks
from sgflux.settings.training import TrainConfig
from sgflux.training.terms.loss import TermInputs
from sgflux.training.terms.ranking.negatives import ConfusionTable, NegativeSampler
from sgflux.training.terms.ranking.rankers import (
    FlowRanker,
    LatentRanker,
    Ranker,
    SaliencyRanker,
    expect_known_predicates,
)
from sgflux.training.terms.regions import relation_regions


@dataclass(frozen=True)
class TermSources:
    """What the terms need that is known before anything is encoded.

    Attributes:
        sampler: draws negatives; None without ranking.
        classifier: with its card; None where none is used.
    """

    sampler: NegativeSampler | None = None
    classifier: tuple[RelationClassifier, ClassifierCard] | None = None

    def graphs(self) -> list[SceneGraph]:
        """Statements that the model may be asked about beside those of the data set's graphs."""
        return [] if self.sampler is None else list(self.sampler.statements())

    def replacements(self, graph: SceneGraph) -> list[SceneGraph]:
        """Every statement of a graph with every predicate: what a measurement of confusions asks.

        The things of a validation graph need not stand together anywhere in the training set.
        """
        predicates = () if self.sampler is None else self.sampler.predicates
        return [
            SceneGraph.from_triple(Triple(one.subject, predicate, one.object))
            for one in graph.triples()
            for predicate in predicates
        ]

    def words(self) -> list[str]:
        """Words that a classifier reads beside those of the graphs."""
        return [] if self.classifier is None else list(self.classifier[1].predicates)


def read_sources(config: TrainConfig, train: Sequence[SceneExample]) -> TermSources:
    """Look at the training set's negatives, and load the classifier.

    Raises:
        SgfluxError: if there is no negative, or the classifier does not fit or knows nothing.
    """
    losses = config.losses
    if not losses.lambda_rel_rank:
        return TermSources()
    sampler = NegativeSampler(
        train,
        weights=losses.negatives.weights(),
        count=losses.negatives_per_example,
        seed=config.run.seed,
        vocabulary=vocabulary_of(config.data.vocabulary),
    )
    if losses.classifier is None:
        return TermSources(sampler)
    model, card = load_classifier(losses.classifier)
    card.expect_better_than_chance(losses.classifier)
    if losses.ranker not in ("flow", card.kind):
        raise SgfluxError(
            f"classifier {str(losses.classifier)!r} is of kind {card.kind!r}, but ranker is "
            f"{losses.ranker!r}; give one of that kind"
        )
    stated = {predicate for one in train for _, predicate, _ in one.graph.relationships}
    expect_known_predicates(model, [*stated, *sampler.inverses()])
    return TermSources(sampler, (model, card))


def build_terms(
    config: TrainConfig,
    sources: TermSources,
    train: Sequence[SceneExample],
    *,
    names: NameFeatures,
    concept_pooled: Tensor | None,
    sizes: Sequence[Size],
    patch: int,
    num_layers: int,
    autoencoder_identity: str,
    transformer_identities: Sequence[str],
    images_dir: Path,
    anchor_sigmas: Callable[[int], Tensor] | None,
    words: Callable[[Sequence[int]], tuple[Tensor, Tensor]],
    device: torch.device,
) -> TermInputs:
    """Everything that the terms need.

    Args:
        config: of the run.
        sources: from :func:`read_sources`.
        train: the training set.
        names: features of the words.
        concept_pooled: CLIP features that modulate concepts, (1, D_clip); None without concepts.
        sizes: Size of each training picture with aspect buckets; else empty.
        patch: pixels a side of an image token.
        num_layers: double blocks of the model.
        autoencoder_identity: of the one that encoded the pictures.
        transformer_identities: Names that a classifier's card may have for the transformer: the
            digest of all its weights, and in older cards the fingerprint of two layers.
        images_dir: root of the training pictures.
        anchor_sigmas: The anchor's noise levels, see :class:`TermInputs`.
        words: see :class:`TermInputs`.
        device: where the run computes.

    Raises:
        SgfluxError: if the classifier was made on another model, or a row has no boxes.
    """
    losses = config.losses
    if losses.is_off:
        return TermInputs()
    ranker: Ranker | None = None
    blocks = default_concept_blocks(num_layers)
    confusion = None
    if sources.sampler is not None:
        confusion = ConfusionTable.uniform(sources.sampler.predicates)
        ranker = FlowRanker()
    if sources.classifier is not None:
        model, card = sources.classifier
        here = [autoencoder_identity] if card.kind == "latent" else transformer_identities
        if card.reads not in here:
            part = "autoencoder" if card.kind == "latent" else "transformer"
            raise SgfluxError(
                f"classifier {str(losses.classifier)!r} was made on another {part} than "
                f"{config.model.model_id!r} has; train one on this model"
            )
        model.to(device)
        if losses.hard_negatives_from == "classifier":
            confusion = ConfusionTable(0, card.confusion())
        if losses.ranker == "latent" and isinstance(model, LatentRelationClassifier):
            ranker = LatentRanker(model, names)
        elif losses.ranker == "saliency" and isinstance(model, SaliencyRelationClassifier):
            ranker = SaliencyRanker(model)
            blocks = model.blocks
    if concept_pooled is not None:
        check_concept_blocks(blocks, num_layers=num_layers)
    regions = None
    if losses.alpha_gen_rel and losses.gen_rel_from == "boxes":
        regions = relation_regions(
            train,
            images_dir=images_dir,
            sizes=sizes or [config.pictures.size] * len(train),
            crop=config.pictures.crop,
            patch=patch,
        )
    return TermInputs(
        sampler=sources.sampler,
        ranker=ranker,
        concept_blocks=blocks,
        concept_pooled=concept_pooled,
        regions=regions,
        confusion=confusion,
        anchor_sigmas=anchor_sigmas,
        words=words if losses.lambda_words else None,
    )
