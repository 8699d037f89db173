"""Settings of the losses beside the flow-matching error, and of the negatives that they need.

See :mod:`sgflux.training.terms` for the formulas. Each term has a weight, and enters between two
steps: not before ``start``, in full after ``warm_in`` further steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from sgflux.settings.checks import ConfigError, expect, typed_fields

RankerKind = Literal["flow", "latent", "saliency"]


@dataclass(frozen=True, kw_only=True)
class NegativeMix:
    """How often each kind of negative is drawn; the weights need not sum to 1."""

    role_swap: float = 1.0
    """Subject and object change places."""
    inverse: float = 0.0
    """The predicate becomes its inverse."""
    predicate: float = 1.0
    """The predicate becomes any other one of the training data."""
    hard_predicate: float = 0.0
    """The predicate becomes one that it is confused with."""
    object: float = 0.0
    """Subject or object becomes another thing of the training data."""
    edge_drop: float = 0.0
    """One of several relationships is left out."""

    def __post_init__(self) -> None:
        """Check the weights."""
        typed_fields(self)
        for name, weight in self.weights().items():
            expect(weight >= 0, f"negatives.{name}", weight, "be >= 0")
        if not any(self.weights().values()):
            raise ConfigError("negatives: at least one of the weights must be > 0")

    def weights(self) -> dict[str, float]:
        """Kind -> weight, in the order of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is learned from beside the flow-matching error."""

    # -- ranking -------------------------------------------------------------------------------
    lambda_rel_rank: float = 0.0
    """Weight of the ranking loss: the true graph is to be preferred to a corrupted one."""
    ranker: RankerKind = "flow"
    """What measures how well a graph fits a picture: the model's own error, or a classifier."""
    classifier: Path | None = None
    """Folder that `sgflux train-classifier` wrote, for the rankers 'latent' and 'saliency'."""
    use_negative_graph: bool = False
    """Let a classifier compare pictures under both graphs; the ranker 'flow' always does."""
    rel_rank_margin: float | None = None
    """Margin of the ranking loss in its margin form; None: the logistic form."""
    rel_rank_temperature: float | None = None
    """Steepness of the ranking loss in its logistic form; None: 50 for 'flow', 1 for a
    classifier."""
    rel_rank_ceiling: float | None = None
    """Gap between two errors beyond which a negative adds no loss; None: 0.05 for 'flow', 4 for a
    classifier."""
    rel_rank_start: int = 0
    """Steps before the ranking loss begins."""
    rel_rank_warm_in: int = 0
    """Steps in which it then grows to its full weight."""

    # -- negatives -----------------------------------------------------------------------------
    negatives: NegativeMix = field(default_factory=NegativeMix)
    """How graphs are corrupted."""
    negatives_per_example: int = 1
    """Corrupted graphs for each true one."""
    hard_negatives_from: Literal["model", "classifier"] = "model"
    """Whose confusions 'hard_predicate' uses; the model's are measured on the validation set."""
    hard_negatives_every: int = 500
    """Steps between two measurements of the model's confusions."""

    # -- relation-weighted loss ----------------------------------------------------------------
    alpha_gen_rel: float = 0.0
    """How much more the flow-matching error counts where the relation is to be seen."""
    gen_rel_from: Literal["saliency", "boxes"] = "saliency"
    """Where alpha_gen_rel finds the relation: in the model's attention to the predicate, or in the
    rows' boxes."""
    gen_rel_start: int = 0
    """Steps before the weighting begins."""
    gen_rel_warm_in: int = 0
    """Steps in which it then grows to its full strength."""

    # -- words ---------------------------------------------------------------------------------
    lambda_words: float = 20.0
    """Weight of distillation from the base model prompted with the relation in text; 0: none, for a
    base that cannot draw what the graphs say."""
    words_start: int = 0
    """Steps before the distillation from words begins."""
    words_warm_in: int = 0
    """Steps in which it then grows to its full weight."""

    # -- anchor --------------------------------------------------------------------------------
    lambda_anchor: float = 0.0
    """Weight of staying near the base's velocity at the sigmas of its four-step sampling."""
    anchor_start: int = 0
    """Steps before the anchor begins."""
    anchor_warm_in: int = 0
    """Steps in which it then grows to its full weight."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        for name in ("negatives_per_example", "hard_negatives_every"):
            expect(getattr(self, name) >= 1, name, getattr(self, name), "be at least 1")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in self.weights() or entry.name.endswith(("_start", "_warm_in")):
                expect(value >= 0, entry.name, value, "be at least 0")
        for name in ("rel_rank_margin", "rel_rank_temperature", "rel_rank_ceiling"):
            value = getattr(self, name)
            expect(value is None or value > 0, name, value, "be greater than 0")
        self._check_effects()
        if self.lambda_rel_rank:
            self._check_ranking()

    def weights(self) -> dict[str, float]:
        """Setting of each term's weight -> its value, in the order of the fields."""
        return {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.name.startswith(("lambda_", "alpha_"))
        }

    @property
    def reads_saliency(self) -> bool:
        """Whether concept maps are needed."""
        ranks = bool(self.lambda_rel_rank) and self.ranker == "saliency"
        return ranks or (bool(self.alpha_gen_rel) and self.gen_rel_from == "saliency")

    @property
    def measures_confusion(self) -> bool:
        """Whether the model's own confusions are measured on the validation set."""
        return (
            bool(self.lambda_rel_rank)
            and self.negatives.hard_predicate > 0
            and self.hard_negatives_from == "model"
        )

    def _check_effects(self) -> None:
        """Every setting of a term that is off must have its default."""
        for name, weight in self.weights().items():
            if not weight:
                prefixes = [f"{name.partition('_')[2]}_"]
                if name == "lambda_rel_rank":
                    prefixes += ["ranker", "classifier", "use_negative_graph"]
                    prefixes += ["negatives", "hard_negatives_"]
                self._expect_defaults(
                    f"{name} is 0",
                    *(f.name for f in fields(self) if f.name.startswith(tuple(prefixes))),
                )

    def _check_ranking(self) -> None:
        if self.rel_rank_margin is not None:
            self._expect_defaults(
                "with rel_rank_margin", "rel_rank_temperature", "rel_rank_ceiling"
            )
        if not self.negatives.hard_predicate:
            self._expect_defaults(
                "negatives.hard_predicate is 0", "hard_negatives_from", "hard_negatives_every"
            )
        elif self.hard_negatives_from == "classifier":
            self._expect_defaults("with hard_negatives_from 'classifier'", "hard_negatives_every")
        needs_classifier = self.ranker != "flow" or self.hard_negatives_from == "classifier"
        if needs_classifier and self.classifier is None:
            by_ranker = self.ranker != "flow"
            what = f"ranker {self.ranker!r}" if by_ranker else "hard_negatives_from 'classifier'"
            raise ConfigError(
                f"{what} needs classifier, the folder that `sgflux train-classifier` wrote"
            )
        if not needs_classifier:
            self._expect_defaults("with ranker 'flow'", "classifier")
        if self.ranker == "saliency" and self.negatives_per_example > 1:
            raise ConfigError(
                "negatives_per_example must be 1 with ranker 'saliency', whose maps are of one "
                f"statement, got {self.negatives_per_example}"
            )
        if self.ranker != "flow" and not self.use_negative_graph:
            unreadable = ["edge_drop"] + (["object"] if self.ranker == "saliency" else [])
            for name in unreadable:
                if getattr(self.negatives, name):
                    raise ConfigError(
                        f"negatives.{name} needs use_negative_graph with ranker {self.ranker!r}: "
                        "one picture cannot be compared with itself under such a negative"
                    )

    def _expect_defaults(self, why: str, *names: str) -> None:
        for entry in fields(self):
            if entry.name not in names:
                continue
            default = NegativeMix() if entry.name == "negatives" else entry.default
            value = getattr(self, entry.name)
            if value != default:
                raise ConfigError(f"{entry.name} ({value!r}) has no effect: {why}")
