"""The term L_rel_rank.

Shapes: B examples, K negatives of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.losses import RankerKind, RankingSettings
from sgflux.training.batches.batch import Batch
from sgflux.training.processes.processes import Processes
from sgflux.training.terms.errors import preference
from sgflux.training.terms.ranking.classifier import (
    LoadedClassifier,
    expect_known_predicates,
    read_classifier,
)
from sgflux.training.terms.ranking.flow import FlowRanker
from sgflux.training.terms.ranking.form import RankingForm
from sgflux.training.terms.ranking.hard_negatives import measured_mistakes
from sgflux.training.terms.ranking.latent import LatentRanker
from sgflux.training.terms.ranking.negatives import (
    ConfusionTable,
    Contrast,
    Contrasts,
    NegativeSampler,
)
from sgflux.training.terms.ranking.ranker import Ranker
from sgflux.training.terms.ranking.saliency import SaliencyRanker
from sgflux.training.terms.term import Needs, Parts, Schedule, Sources, Step, TermLoss
from sgflux.training.validation import ErrorOf, Validator

RANKERS: Mapping[RankerKind, Callable[[Any], Ranker]] = {
    "flow": lambda classifier: FlowRanker(),  # noqa: ARG005
    "latent": LatentRanker,
    "saliency": SaliencyRanker,
}
"""Setting ``ranker`` -> its classifier, if it has one -> the ranker."""

_COSTS = ("rank_gap", "rank_active")
_ERRORS = ("error_positive", "error_negative", "error_gap", "train_ranking_accuracy")


class Ranking:
    """Mean over the examples of the loss that prefers the true graph to negatives.

    Attributes:
        sampler: Draws the negatives.
        confusion: Predicates that are mistaken for each other, for hard negatives: the only state
            that a term has, and a part of every checkpoint.
    """

    name = "rank"

    def __init__(self, settings: RankingSettings, sources: Sources) -> None:
        """Look at the training set's negatives, and load the classifier.

        Raises:
            SgfluxError: if no example has a negative, or the classifier does not fit.
        """
        self.schedule = Schedule(
            settings.lambda_rel_rank, settings.rel_rank_start, settings.rel_rank_warm_in
        )
        self._settings = settings
        # A classifier may read one picture under both statements; the errors need both graphs.
        self._compares_graphs = settings.ranker == "flow" or settings.use_negative_graph
        summed = (*_ERRORS, *_COSTS) if self._compares_graphs else _COSTS
        self.figures: Mapping[str, str | None] = {
            "rank_pairs": None,
            **dict.fromkeys(summed, "rank_pairs"),
        }
        self._examples = examples = sources.examples
        self._classifier: LoadedClassifier | None = None
        others: list[str] | None = None
        if settings.classifier is not None:
            self._classifier = read_classifier(settings.classifier, ranker=settings.ranker)
            if not self._compares_graphs:  # the classifier is asked about negatives
                known, words = sources.vocabulary, self._classifier.model.predicates
                others = [word for word in words if word in known]
        self.sampler = NegativeSampler(
            examples,
            weights=settings.negatives.weights(),
            count=settings.negatives_per_example,
            seed=sources.seed,
            vocabulary=sources.vocabulary,
            others=others,
        )
        if self.sampler.without:
            sources.say(
                f"{self.sampler.without} of {len(examples)} training examples have no negative "
                "graph and are left out of the ranking loss"
            )
        self.confusion = ConfusionTable.uniform(self.sampler.predicates)
        if self._classifier is not None:
            stated = {p for one in examples for _, p, _ in one.graph.relationships}
            expect_known_predicates(self._classifier.model, [*stated, *self.sampler.inverses()])
            if settings.hard_negatives_from == "classifier":
                self.confusion = ConfusionTable(0, self._classifier.card.confusion())
        model = None if self._classifier is None else self._classifier.model
        self._ranker = RANKERS[settings.ranker](model)

    def needs(self) -> Needs:
        """Every statement that a negative may make, and the classifier's words."""
        classifier = self._classifier
        return Needs(
            graphs=self._graphs,
            names=True,
            words=() if classifier is None else classifier.model.predicates,
            files={} if classifier is None else classifier.files,
            contrasts=self._draw,
            concepts=self._ranker.concepts(self.schedule),
            # Both errors, so that one bought with the other is seen.
            shown={"error_positive": "e(g+)", "error_negative": "e(g-)"},
        )

    def ready(self, parts: Parts) -> TermLoss:
        """Check the classifier against the base.

        Raises:
            SgfluxError: if the classifier was made on another model.
        """
        if self._classifier is not None:
            self._classifier.ready(parts.reads, model_id=parts.model_id, device=parts.device)
        settings, ranker = self._settings, self._ranker
        form = RankingForm(
            temperature=settings.rel_rank_temperature or ranker.temperature,
            ceiling=settings.rel_rank_ceiling or ranker.ceiling,
            margin=settings.rel_rank_margin,
        )

        def loss(step: Step) -> tuple[Tensor, Mapping[str, Tensor]]:
            contrasts, errors = step.contrasts, step.branches.errors
            assert contrasts is not None, "the term's needs ask for contrasts"
            paired = torch.tensor(contrasts.paired, device=errors.device)
            positive, negative = ranker.costs(step.branches, contrasts.asked, parts.names)
            value = form.loss(positive, negative, paired)
            figures = {
                "rank_pairs": paired.sum().float(),
                "rank_gap": _sum(negative - positive, paired),
                "rank_active": form.active(positive, negative, paired).sum().float(),
            }
            if self._compares_graphs:
                true, false = errors[:1].expand_as(errors[1:]), errors[1:]
                figures |= {
                    "error_positive": _sum(true, paired),
                    "error_negative": _sum(false, paired),
                    "error_gap": _sum(false - true, paired),
                    "train_ranking_accuracy": _sum(preference(true, false), paired),
                }
            return value, figures

        return loss

    def _draw(self, batch: Batch, rows: Sequence[int], draws: Sequence[int]) -> Contrasts:
        stand_ins = [
            Contrast(graph=one.graph, true=one.triple, false=None)
            for one in (self._examples[row] for row in rows)
        ]
        drawn = [
            # An example without its graph has nothing to prefer.
            [
                None if graph.is_null else one
                for one, graph in zip(column, batch.graphs, strict=True)
            ]
            for column in self.sampler.draw(rows, numbers=draws, confusion=self.confusion)
        ]
        return Contrasts(
            asked=[
                [one or stand_in for one, stand_in in zip(column, stand_ins, strict=True)]
                for column in drawn
            ],
            paired=[[one is not None for one in column] for column in drawn],
            in_network=self._compares_graphs,
        )

    def _graphs(self, validation: Sequence[SceneGraph]) -> Iterable[SceneGraph]:
        """Statements of negatives, and those that a measurement of confusions asks about.

        The things of a validation graph need not stand together anywhere in the training set.
        """
        yield from self.sampler.statements()
        if self._settings.measures_confusion:
            for graph in validation:
                for one in graph.triples():
                    for predicate in self.sampler.predicates:
                        yield SceneGraph.from_triple(Triple(one.subject, predicate, one.object))

    # -- hard negatives ------------------------------------------------------------------------

    def is_due(self, step: int) -> bool:
        """Whether the model's confusions are to be measured before this step."""
        return bool(
            self._settings.measures_confusion
            and step
            and step % self._settings.hard_negatives_every == 0
            and self.confusion.step != step
            and self.schedule.at(step)
        )

    def measure(
        self, step: int, validator: Validator, error_of: ErrorOf, *, processes: Processes
    ) -> str:
        """Measure which predicates the model confuses now; returns a line for the log.

        Args:
            step: Number of optimizer steps done.
            validator: Has the examples that are measured, shared by the processes.
            error_of: Computes e(g).
            processes: The processes of the run.
        """
        found = measured_mistakes(
            validator,
            error_of,
            predicates=self.sampler.predicates,
            vocabulary=self.sampler.vocabulary,
            processes=processes,
        )
        self.confusion = ConfusionTable.counted(step, processes.gather(found))
        mistakes = sum(value for _, _, value in found) / max(1, len(found))
        return f"step {step}  hard negatives: {mistakes:.1%} of predicates confused"


def _sum(values: Tensor, paired: Tensor) -> Tensor:
    return values.detach().float().masked_fill(~paired, 0.0).sum()
