"""What a picture comes with in training: a text, and usually its graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sgflux.settings.checks import (
    ConfigError,
    PartialShare,
    expect,
    expect_defaults,
    is_number,
    settings,
)
from sgflux.settings.shared import MaxSequenceLength

PromptKind = Literal["relational", "neutral", "empty", "contradicting"]


@dataclass(frozen=True, kw_only=True)
class PromptMix:
    """How often each kind of text accompanies an example; the weights need not sum to 1."""

    neutral: float = 1.0
    """Weight of neutral prompts like "a photo of man and horse", which leave the relation to the
    graph."""
    relational: float = 0.0
    """Weight of relational prompts like "a photo of man riding horse", which already state the
    relation."""
    empty: float = 0.0
    """Weight of empty prompts."""
    contradicting: float = 0.0
    """Weight of prompts that state another graph than the picture's: the roles of one statement
    are swapped, or it has another predicate. An example whose graph has no such change, or that is
    shown without its graph, has the neutral prompt."""

    def __post_init__(self) -> None:
        """Check the weights."""
        for name, weight in self.weights().items():
            expect(is_number(weight) and weight >= 0, f"prompt_mix.{name}", weight, "be >= 0")
        if not self.kinds():
            raise ConfigError("prompt_mix: at least one weight must be > 0")

    def weights(self) -> dict[PromptKind, float]:
        """Kind -> weight, in the order of the fields."""
        return {
            "neutral": self.neutral,
            "relational": self.relational,
            "empty": self.empty,
            "contradicting": self.contradicting,
        }

    def kinds(self) -> tuple[PromptKind, ...]:
        """The kinds that occur, in the order of the fields."""
        return tuple(kind for kind, weight in self.weights().items() if weight > 0)

    @property
    def heaviest(self) -> PromptKind:
        """The most frequent kind; of equally frequent ones, the first."""
        weights = self.weights()
        return max(weights, key=lambda kind: weights[kind])


@settings
class ConditionSettings:
    """What a picture comes with in training: a text, and usually its graph."""

    prompt_mix: PromptMix = field(default_factory=PromptMix)
    """Prompt mix."""
    prompt_relation_dropout: PartialShare = 0.0
    """Probability that a relational prompt is replaced by the neutral one."""
    null_graph_probability: PartialShare = 0.1
    """Probability that an example is shown without its graph."""
    max_sequence_length: MaxSequenceLength = None

    def __post_init__(self) -> None:
        """Check that every value given has an effect."""
        if not self.prompt_mix.relational:
            expect_defaults(self, "while prompt_mix.relational is 0", "prompt_relation_dropout")

    @property
    def texts(self) -> PromptMix:
        """How often each kind of text occurs, after the relation dropout."""
        mix, dropped = self.prompt_mix, self.prompt_relation_dropout
        if not dropped:
            return mix
        return PromptMix(
            neutral=mix.neutral + dropped * mix.relational,
            relational=(1 - dropped) * mix.relational,
            empty=mix.empty,
            contradicting=mix.contradicting,
        )
