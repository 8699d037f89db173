"""The loss of one forward pass: its terms, when they enter, and the figures that show them.

    L = L_gen or L_gen_rel  +  lambda_rel_rank * L_rel_rank  +  lambda_words * L_words
        +  lambda_anchor * L_anchor

Everything is taken on the same latents and noise; all but the anchor on the same sigma. Where all
further terms are off, a pass is the plain flow-matching error and nothing else.

Shapes: B examples, K negatives of each, S image tokens, F figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.data.examples import SceneExample
from sgflux.graphs.scene_graph import Triple
from sgflux.models.graph_encoder import NameFeatures
from sgflux.settings.losses import LossConfig
from sgflux.training.batches import Batch
from sgflux.training.objective import Concepts, FlowMatchingObjective
from sgflux.training.randomness import generator_for
from sgflux.training.terms.errors import (
    RankingForm,
    flow_matching_loss,
    preference,
    ramp,
    relation_weights,
    weighted_flow_matching_loss,
)
from sgflux.training.terms.ranking.negatives import ConfusionTable, Contrast, NegativeSampler
from sgflux.training.terms.ranking.rankers import Branches, Ranker, SaliencyRanker

_SUMS = ("error_positive", "error_negative", "error_gap", "train_ranking_accuracy")
_COST_SUMS = ("rank_gap", "rank_active")


@dataclass(frozen=True, eq=False)
class TermInputs:
    """What the further terms need, made once at the start of a run.

    Attributes:
        sampler: draws corrupted graphs; None without ranking.
        ranker: None without ranking.
        concept_blocks: the double blocks whose concept maps are read.
        concept_pooled: CLIP features that modulate concepts, (1, D_clip); None without concepts.
        regions: Weight of each token in each example's relation, N times (S,); None where saliency
            gives it.
        confusion: what is known of confusions before the first measurement.
        anchor_sigmas: number of image tokens -> levels of the model's own four-step sampling, (4,)
            float32; None without an anchor.
        words: features (B, L, D) and pooled (B, P) of the texts that state B examples' graphs; None
            where nothing is learned from them.
    """

    sampler: NegativeSampler | None = None
    ranker: Ranker | None = None
    concept_blocks: tuple[int, ...] = ()
    concept_pooled: Tensor | None = None
    regions: Sequence[Tensor] | None = None
    confusion: ConfusionTable | None = None
    anchor_sigmas: Callable[[int], Tensor] | None = None
    words: Callable[[Sequence[int]], tuple[Tensor, Tensor]] | None = None


class LossTerms:
    """Computes the loss of a batch.

    Attributes:
        names: of the F figures that a pass gives beside its loss.
    """

    def __init__(
        self,
        losses: LossConfig,
        inputs: TermInputs,
        *,
        objective: FlowMatchingObjective,
        examples: Sequence[SceneExample],
        name_features: NameFeatures,
        seed: int,
    ) -> None:
        """Keep the parts.

        Args:
            losses: which terms, and how much of them.
            inputs: what they need.
            objective: runs the network.
            examples: the training set.
            name_features: features of the graphs' words, for concepts.
            seed: of the anchor's noise levels.
        """
        self._losses = losses
        self._inputs = inputs
        self._objective = objective
        self._examples = examples
        self._names = name_features
        self._seed = seed
        self._form = None
        if inputs.ranker is not None:
            self._form = RankingForm(
                temperature=losses.rel_rank_temperature or inputs.ranker.temperature,
                ceiling=losses.rel_rank_ceiling or inputs.ranker.ceiling,
                margin=losses.rel_rank_margin,
            )
        self.names: tuple[str, ...] = ()
        if not losses.is_off:
            self.names = ("loss_gen",)
        if losses.alpha_gen_rel:
            self.names += ("loss_gen_rel",)
        if losses.lambda_rel_rank:
            sums = (*_SUMS, *_COST_SUMS) if losses.compares_graphs else _COST_SUMS
            self.names += ("loss_rank", "rank_pairs", *sums)
        if losses.lambda_words:
            self.names += ("loss_words",)
        if losses.lambda_anchor:
            self.names += ("loss_anchor",)

    def ranking_share(self, step: int) -> float:
        """How much of its weight the ranking loss has in a step."""
        losses = self._losses
        if not losses.lambda_rel_rank:
            return 0.0
        return ramp(step, start=losses.rel_rank_start, warm_in=losses.rel_rank_warm_in)

    def __call__(
        self,
        batch: Batch,
        rows: Sequence[int],
        *,
        step: int,
        numbers: Sequence[int],
        confusion: ConfusionTable | None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a pass, a scalar with gradient, and its figures, (F,) float32 without.

        Args:
            batch: B examples.
            rows: which ones.
            step: optimizer steps done.
            numbers: what random draws follow from, beside the seed: the pass and the process.
            confusion: for hard negatives.
        """
        if self._losses.is_off:
            (errors,) = self._objective(batch, [batch.graphs])
            return errors.mean(), errors.new_zeros(0)
        share = self.ranking_share(step)
        contrasts: list[list[Contrast | None]] = []
        if share and self._inputs.sampler is not None and confusion is not None:
            contrasts = self._inputs.sampler.draw(rows, numbers=numbers, confusion=confusion)
            # An example without its graph has nothing to prefer.
            for column in contrasts:
                for place, graph in enumerate(batch.graphs):
                    if graph.is_null:
                        column[place] = None
        asked = [self._filled(column, rows) for column in contrasts]
        strength = self._weighting(step)
        branches = self._objective.branches(
            batch,
            [[one.graph for one in column] for column in asked]
            if self._losses.compares_graphs
            else [],
            concepts=self._concepts(batch, rows, asked, weighted=strength > 0),
        )
        figures = {"loss_gen": branches.errors[0].mean()}
        loss = figures["loss_gen"]
        if strength:
            loss = self._weighted_loss(batch, rows, branches, asked, strength)
        figures["loss_gen_rel"] = loss
        if asked:
            ranking = self._rank(branches, contrasts, asked)
            loss = loss + share * self._losses.lambda_rel_rank * ranking["loss_rank"]
            figures |= ranking
        losses = self._losses
        words = losses.lambda_words * ramp(
            step, start=losses.words_start, warm_in=losses.words_warm_in
        )
        if words:
            figures["loss_words"] = self._in_words(batch, rows, branches.velocity[0])
            loss = loss + words * figures["loss_words"]
        anchor = losses.lambda_anchor * ramp(
            step, start=losses.anchor_start, warm_in=losses.anchor_warm_in
        )
        if anchor:
            figures["loss_anchor"] = self._anchor(batch, numbers)
            loss = loss + anchor * figures["loss_anchor"]
        nothing = torch.zeros((), device=loss.device)
        return loss, torch.stack(
            [figures.get(name, nothing).detach().float() for name in self.names]
        )

    def row(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Figures averaged over passes as they are logged: sums over pairs become their means.

        What had no pair to be measured on is left out.
        """
        found = dict(figures)
        pairs = found.get("rank_pairs", 0.0)
        for name in (*_SUMS, *_COST_SUMS):
            if name in found:
                value = found.pop(name)
                if pairs:
                    found[name] = value / pairs
        return found

    # -- ranking -------------------------------------------------------------------------------

    def _filled(self, column: Sequence[Contrast | None], rows: Sequence[int]) -> list[Contrast]:
        """With a stand-in where there is no contrast: every branch has B rows."""
        return [
            one
            or Contrast(
                graph=self._examples[row].graph, true=self._examples[row].triple, false=None
            )
            for one, row in zip(column, rows, strict=True)
        ]

    def _rank(
        self,
        branches: Branches,
        contrasts: Sequence[Sequence[Contrast | None]],
        asked: Sequence[Sequence[Contrast]],
    ) -> dict[str, Tensor]:
        ranker, form = self._inputs.ranker, self._form
        assert ranker is not None, "there are contrasts only where there is a ranker"
        assert form is not None, "a ranker brings its form along"
        device = branches.errors.device
        paired = torch.tensor(
            [[one is not None for one in column] for column in contrasts], device=device
        )
        positive, negative = ranker.costs(branches, asked)
        figures = {
            "loss_rank": form.loss(positive, negative, paired),
            "rank_pairs": paired.sum().float(),
            "rank_gap": _sum(negative - positive, paired),
            "rank_active": form.active(positive, negative, paired).sum().float(),
        }
        if self._losses.compares_graphs:
            true, corrupted = (
                branches.errors[:1].expand_as(branches.errors[1:]),
                branches.errors[1:],
            )
            figures |= {
                "error_positive": _sum(true, paired),
                "error_negative": _sum(corrupted, paired),
                "error_gap": _sum(corrupted - true, paired),
                "train_ranking_accuracy": _sum(preference(true, corrupted), paired),
            }
        return figures

    # -- the relation-weighted error -----------------------------------------------------------

    def _weighting(self, step: int) -> float:
        losses = self._losses
        share = ramp(step, start=losses.gen_rel_start, warm_in=losses.gen_rel_warm_in)
        return share * losses.alpha_gen_rel

    def _weighted_loss(
        self,
        batch: Batch,
        rows: Sequence[int],
        branches: Branches,
        asked: Sequence[Sequence[Contrast]],
        strength: float,
    ) -> Tensor:
        if self._inputs.regions is not None:
            own = [self._inputs.regions[row] for row in rows]
            region = torch.stack(own).to(branches.errors.device)
        else:
            assert branches.maps is not None, "saliency is what the concepts were for"
            region = branches.maps[0, torch.arange(len(rows)), self._predicate_places(rows, asked)]
        weights = relation_weights(region, alpha=strength)
        velocity = branches.velocity[0]
        return weighted_flow_matching_loss(velocity, self._objective.target(batch), weights).mean()

    # -- concepts ------------------------------------------------------------------------------

    def _words(self, rows: Sequence[int], asked: Sequence[Sequence[Contrast]]) -> list[list[str]]:
        """The concepts of each example: subject, object, and one or all predicates."""
        statements, ranker = self._statements(rows, asked), self._inputs.ranker
        if isinstance(ranker, SaliencyRanker):
            return [ranker.concepts(statement) for statement in statements]
        return [[one.subject, one.object, one.predicate] for one in statements]

    def _statements(self, rows: Sequence[int], asked: Sequence[Sequence[Contrast]]) -> list[Triple]:
        """Whose parts the concepts are: the statement that is ranked, else the row's own."""
        if asked and isinstance(self._inputs.ranker, SaliencyRanker):
            return [one.true for one in asked[0]]
        return [self._examples[row].triple for row in rows]

    def _concepts(
        self,
        batch: Batch,
        rows: Sequence[int],
        asked: Sequence[Sequence[Contrast]],
        *,
        weighted: bool,
    ) -> Concepts | None:
        """What looks on, where somebody is going to read its maps."""
        weighs_by_saliency = weighted and self._inputs.regions is None
        ranks_by_saliency = bool(asked) and isinstance(self._inputs.ranker, SaliencyRanker)
        if not (weighs_by_saliency or ranks_by_saliency):
            return None
        pooled = self._inputs.concept_pooled
        assert pooled is not None, "it was encoded for a run with saliency"
        words, device = self._words(rows, asked), batch.latents.device
        features = self._names.lookup([word for own in words for word in own])
        return Concepts(
            states=features.unflatten(0, (len(rows), -1)).to(device),
            pooled=pooled.to(device).expand(len(rows), -1),
            blocks=self._inputs.concept_blocks,
        )

    def _predicate_places(
        self, rows: Sequence[int], asked: Sequence[Sequence[Contrast]]
    ) -> list[int]:
        """Which of the concepts is the predicate of each example's statement."""
        pairs = zip(self._words(rows, asked), self._statements(rows, asked), strict=True)
        return [2 + own[2:].index(one.predicate) for own, one in pairs]

    # -- words ---------------------------------------------------------------------------------

    def _in_words(self, batch: Batch, rows: Sequence[int], velocity: Tensor) -> Tensor:
        """Mean distance from the base told the graph in words; without a graph, its own text."""
        assert self._inputs.words is not None, "the texts are part of the term's inputs"
        target = self._objective.velocity_in_words(batch, self._inputs.words(rows))
        return flow_matching_loss(velocity, target).mean()

    # -- the anchor ----------------------------------------------------------------------------

    def _anchor(self, batch: Batch, numbers: Sequence[int]) -> Tensor:
        levels_of = self._inputs.anchor_sigmas
        assert levels_of is not None, "an anchor's noise levels are part of its inputs"
        height, width = batch.latents.shape[2:]
        levels = levels_of((height // 2) * (width // 2))
        drawn = torch.randint(
            len(levels),
            (len(batch.graphs),),
            generator=generator_for(self._seed, "anchor", *numbers),
        )
        sigma = levels[drawn].to(batch.latents.device)
        return self._objective.anchor_errors(batch, sigma).mean()


def _sum(values: Tensor, paired: Tensor) -> Tensor:
    return values.detach().float().masked_fill(~paired, 0.0).sum()
