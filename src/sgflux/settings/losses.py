"""Settings of the terms of the loss beside flow matching: one group a term.

The formulas are in :mod:`sgflux.training.terms`. The first field of a group is the weight of its
term, which is off at 0; the term enters between two steps: not before ``start``, in full after
``warm_in`` further steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sgflux.settings.checks import (
    ConfigError,
    Count,
    NotNegative,
    Positive,
    Whole,
    expect,
    expect_defaults,
    from_flat,
    settings,
)
from sgflux.settings.classifier import ClassifierKind
from sgflux.settings.flat import Group, Input
from sgflux.settings.validation import SelectBy

RankerKind = Literal["flow", ClassifierKind]
"""The model's own error, or a classifier of either kind."""


def weight_of(term: Any) -> float:
    """The weight of a term: the first field of its settings."""
    return float(getattr(term, fields(term)[0].name))


def check_term(term: Any) -> None:
    """Check that everything beside a weight of 0 has its default.

    Raises:
        ConfigError: on a setting without effect.
    """
    weight, *others = (entry.name for entry in fields(term))
    if not weight_of(term):
        expect_defaults(term, f"while {weight} is 0", *others)


@settings
class NegativeMix:
    """How often each kind of negative is drawn; the weights need not sum to 1."""

    role_swap: float = 1.0
    """Weight of negatives in which subject and object change places."""
    inverse: float = 0.0
    """Weight of negatives whose predicate is replaced by its inverse."""
    predicate: float = 1.0
    """Weight of negatives whose predicate is replaced by any other one of the training data."""
    hard_predicate: float = 0.0
    """Weight of negatives whose predicate is replaced by one with which it is confused."""
    object: float = 0.0
    """Weight of negatives whose subject or object is replaced by another one of the training
    data."""
    edge_drop: float = 0.0
    """Weight of negatives in which one of several relationships is left out."""
    moved_twin: float = 0.0
    """Weight of negatives in which one relationship of an object is said of another object of the
    same name."""

    def __post_init__(self) -> None:
        """Check the weights."""
        for name, weight in self.weights().items():
            expect(weight >= 0, f"negatives.{name}", weight, "be >= 0")
        if not any(self.weights().values()):
            raise ConfigError("negatives: at least one of the weights must be > 0")

    def weights(self) -> dict[str, float]:
        """Kind -> weight, in the order of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@settings
class RankingSettings:
    """Ranking of the true graph before negative ones."""

    lambda_rel_rank: NotNegative = 0.0
    """Weight of the ranking loss, which prefers the true graph to negative ones; 0 switches it
    off."""
    ranker: RankerKind = "flow"
    """Measure of how well a graph fits a picture: 'flow' is the model's own error, 'latent' and
    'saliency' are classifiers."""
    classifier: Input[Path | None] = None
    """Folder that 'sgflux train-classifier' wrote, for the rankers 'latent' and 'saliency'."""
    use_negative_graph: bool = False
    """Let a classifier compare pictures under both graphs; the ranker 'flow' always does."""
    rel_rank_margin: Positive | None = None
    """Margin of the ranking loss in its margin form. By default the loss has its logistic form."""
    rel_rank_temperature: Positive | None = None
    """Steepness of the ranking loss in its logistic form. By default it is 50 for the ranker 'flow'
    and 1 for a classifier."""
    rel_rank_ceiling: Positive | None = None
    """Gap between two errors beyond which a negative adds no loss. By default it is 0.05 for the
    ranker 'flow' and 4 for a classifier."""
    rel_rank_start: Whole = 0
    """Number of steps before the ranking loss begins."""
    rel_rank_warm_in: Whole = 0
    """Number of steps after --rel-rank-start in which the ranking loss grows to its full weight."""
    negatives: NegativeMix = field(default_factory=NegativeMix)
    """Negative graph."""
    negatives_per_example: Count = 1
    """Number of negative graphs for each true one."""
    hard_negatives_from: Literal["model", "classifier"] = "model"
    """Source of the confusions that --negatives.hard-predicate uses: the model's own errors, which
    are measured on the validation set, or the classifier."""
    hard_negatives_every: Count = 500
    """Number of steps between two measurements of the model's confusions."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        check_term(self)
        if self.lambda_rel_rank:
            self._check_effects()
            self._check_classifier()

    @property
    def measures_confusion(self) -> bool:
        """Whether the model's own confusions are measured on the validation set."""
        return bool(
            self.lambda_rel_rank
            and self.negatives.hard_predicate
            and self.hard_negatives_from == "model"
        )

    def _check_effects(self) -> None:
        if self.rel_rank_margin is not None:
            expect_defaults(
                self, "with rel_rank_margin", "rel_rank_temperature", "rel_rank_ceiling"
            )
        if not self.negatives.hard_predicate:
            names = ("hard_negatives_from", "hard_negatives_every")
            expect_defaults(self, "while negatives.hard_predicate is 0", *names)
        elif self.hard_negatives_from == "classifier":
            expect_defaults(self, "with hard_negatives_from 'classifier'", "hard_negatives_every")

    def _check_classifier(self) -> None:
        needs_classifier = self.ranker != "flow" or self.hard_negatives_from == "classifier"
        if needs_classifier and self.classifier is None:
            by_ranker = self.ranker != "flow"
            what = f"ranker {self.ranker!r}" if by_ranker else "hard_negatives_from 'classifier'"
            raise ConfigError(
                f"{what} needs classifier, the folder that `sgflux train-classifier` wrote"
            )
        if not needs_classifier:
            expect_defaults(self, "with ranker 'flow'", "classifier")
        if self.ranker == "saliency" and self.negatives_per_example > 1:
            raise ConfigError(
                "negatives_per_example must be 1 with ranker 'saliency', whose maps are of one "
                f"statement, got {self.negatives_per_example}"
            )
        if self.ranker != "flow" and self.negatives.moved_twin:
            raise ConfigError(
                f"negatives.moved_twin needs ranker 'flow', got {self.ranker!r}: a classifier "
                "reads names, and such a negative states the same by name"
            )
        if self.ranker != "flow" and not self.use_negative_graph:
            unreadable = ["edge_drop"] + (["object"] if self.ranker == "saliency" else [])
            for name in unreadable:
                if getattr(self.negatives, name):
                    raise ConfigError(
                        f"negatives.{name} needs use_negative_graph with ranker {self.ranker!r}: "
                        "one picture cannot be compared with itself under such a negative"
                    )


@settings
class WeightingSettings:
    """Weighting of the flow-matching error by where the relation is."""

    alpha_gen_rel: NotNegative = 0.0
    """Additional weight of the flow-matching error where the relation is to be seen; 0 switches the
    weighting off."""
    gen_rel_from: Literal["saliency", "boxes"] = "saliency"
    """Source of the places that --alpha-gen-rel weights: 'saliency' is the model's attention to the
    predicate, 'boxes' are the boxes of the rows."""
    gen_rel_start: Whole = 0
    """Number of steps before the weighting of --alpha-gen-rel begins."""
    gen_rel_warm_in: Whole = 0
    """Number of steps after --gen-rel-start in which the weighting of --alpha-gen-rel grows to its
    full strength."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        check_term(self)


@settings
class WordsSettings:
    """Distillation from the base model prompted with the relation in text."""

    keeps = "last"
    """Adapter that is kept by default: the guided teacher raises the validation loss, so that the
    lowest one is no sign of the best adapter. (Without an annotation it is no setting.)"""
    lambda_words: NotNegative = 20.0
    """Weight of distillation from the base model prompted with the relation in text. 0 switches it
    off, for a base that cannot draw what the graphs say."""
    words_scale: Positive = 1.0
    """Scale of the text's effect in the distillation from text: the adapter learns base(own text) +
    scale * (base(relation in text) - base(own text)). Scales other than 1 cost half a further
    forward pass of the base in each step, because only every second example gets this target, with
    twice the excess over 1."""
    words_start: Whole = 0
    """Number of steps before the distillation from text begins."""
    words_warm_in: Whole = 0
    """Number of steps after --words-start in which the distillation from text grows to its full
    weight."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        check_term(self)


@settings
class AnchorSettings:
    """Distance from the base model at the noise levels of its sampling."""

    lambda_anchor: NotNegative = 0.0
    """Weight of the anchor loss, the distance from the base's velocity at the sigmas of its
    four-step sampling; 0 switches it off."""
    anchor_start: Whole = 0
    """Number of steps before the anchor loss begins."""
    anchor_warm_in: Whole = 0
    """Number of steps after --anchor-start in which the anchor loss grows to its full weight."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        check_term(self)


@settings
class LayoutSettings:
    """A predictor of the objects' boxes."""

    lambda_layout: NotNegative = 0.0
    """Weight of the layout loss, which trains a predictor of the objects' boxes from the graph. It
    needs rows with boxes, and --read-boxes, --box-positions or --box-attention; 0 switches it
    off."""
    layout_start: Whole = 0
    """Number of steps before the layout loss begins."""
    layout_warm_in: Whole = 0
    """Number of steps after --layout-start in which the layout loss grows to its full weight."""
    layout_graphs: Whole = 0
    """Number of further training rows that are drawn at random in each step. The predictor learns
    from their graphs and boxes as well; their pictures are not read, so that they cost little."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        check_term(self)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Terms of the loss beside the flow-matching error."""

    ranking: Group[RankingSettings] = field(default_factory=RankingSettings)
    """Ranking loss."""
    weighting: Group[WeightingSettings] = field(default_factory=WeightingSettings)
    """Loss weighting."""
    words: Group[WordsSettings] = field(default_factory=WordsSettings)
    """Distillation."""
    anchor: Group[AnchorSettings] = field(default_factory=AnchorSettings)
    """Anchor loss."""
    layout: Group[LayoutSettings] = field(default_factory=LayoutSettings)
    """Layout loss."""

    @property
    def terms(self) -> list[Any]:
        """The settings of each term."""
        return [getattr(self, entry.name) for entry in fields(self)]

    @property
    def select_by(self) -> SelectBy:
        """How the adapter is chosen where the user does not say it: as a term asks for."""
        asked = [getattr(term, "keeps", None) for term in self.terms if weight_of(term)]
        return next(filter(None, asked), "val_loss")

    @property
    def reads_saliency(self) -> bool:
        """Whether concept maps are needed."""
        ranks = bool(self.ranking.lambda_rel_rank) and self.ranking.ranker == "saliency"
        weighting = self.weighting
        return ranks or (bool(weighting.alpha_gen_rel) and weighting.gen_rel_from == "saliency")

    @classmethod
    def from_flat(cls, **settings: Any) -> LossSettings:
        """Build from the settings of all terms side by side, as flags and files have them.

        Raises:
            ConfigError: on an unknown setting, or as the constructors.
        """
        return from_flat(cls, settings)
