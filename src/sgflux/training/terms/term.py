"""What a loss term is: its protocol, and the records that go in and out of it.

Shapes: B examples, K negatives of each, S image tokens, L text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sgflux.data.boxes import Layout
from sgflux.data.examples import SceneExample
from sgflux.graphs.predicates import PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.models.name_features import NameFeatures
from sgflux.training.batches.batch import Batch
from sgflux.training.objective import Branches, FlowMatchingObjective
from sgflux.training.terms.ranking.negatives import Contrasts


class Term(Protocol):
    """One summand of the loss, made from its settings and the training data.

    Attributes:
        name: The term's loss is logged as ``loss_{name}``.
        schedule: Weight of the term in each step.
        figures: Further figures that the term gives, each with the name of the figure that counts
            what it sums over, or with None if it is a mean already.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def schedule(self) -> Schedule: ...  # noqa: D102

    @property
    def figures(self) -> Mapping[str, str | None]: ...  # noqa: D102

    def needs(self) -> Needs:
        """What must be encoded, and computed in a step, for this term."""

    def ready(self, parts: Parts) -> TermLoss:
        """What computes the term, now that everything is loaded and encoded.

        Raises:
            SgfluxError: if a part does not fit the term.
        """


@dataclass(frozen=True)
class Schedule:
    """Weight of a term, and the steps between which the term enters.

    Attributes:
        weight: Full weight, > 0: a term that exists always has an effect.
        start: Number of steps without the term.
        warm_in: Number of steps in which the weight then grows.
    """

    weight: float = 1.0
    start: int = 0
    warm_in: int = 0

    def __post_init__(self) -> None:
        """Check the weight.

        Raises:
            ValueError: if it is not positive.
        """
        if not self.weight > 0:
            raise ValueError(f"the weight of a loss term must be > 0, got {self.weight}")

    def at(self, step: int) -> float:
        """Weight in a step, counted from 0: 0 before ``start``, then linearly up to ``weight``.

        The first of the ``warm_in`` steps has a share already; without any, the weight is full at
        once.
        """
        if step < self.start:
            return 0.0
        return self.weight * min(1.0, (step - self.start + 1) / (self.warm_in + 1))


@dataclass(frozen=True)
class Sources:
    """What a term may look at before anything is encoded.

    Attributes:
        examples: Training set, N rows.
        seed: Random seed of the run.
        vocabulary: Known predicates, and which statements are the same.
        say: Takes lines for the user.
    """

    examples: Sequence[SceneExample]
    seed: int
    vocabulary: PredicateVocabulary
    say: Callable[[str], None]


@dataclass(frozen=True)
class ConceptWords:
    """Words that look on while the model predicts: parts of one statement of each example.

    Attributes:
        read: Weight with which a term reads their maps in each step.
        predicates: Predicates that look on beside subject and object; empty: the statement's own.
        blocks: Double blocks whose maps are averaged; empty: the later half of them.
        of_contrast: Whether the statement is the one that the negative changes, where there is a
            negative; otherwise it is the example's own triple.
    """

    read: Schedule
    predicates: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    of_contrast: bool = False

    def of(self, statement: Triple) -> list[str]:
        """The words of one statement: subject, object and the predicates."""
        return [statement.subject, statement.object, *(self.predicates or (statement.predicate,))]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What must be encoded before training, computed in each step, and said, for a term.

    Attributes:
        graphs: Graphs of the validation items -> graphs that the model may be asked about beside
            those of the data.
        names: Whether features of the graphs' words are looked up, whatever the graph encoder.
        words: Words that are looked up beside those of the graphs.
        captions: Whether the texts that state the examples' graphs are encoded.
        files: Files that decide the training, by what messages call them.
        teacher_passes: Number of forward passes of the base in each step, for the estimate of the
            cost.
        contrasts: Draws the negatives of a pass: (batch, its rows, what random draws follow
            from beside the seed) -> contrasts.
        concepts: Words whose saliency maps are read.
        shown: Figure -> what the printed log calls it, for figures that are shown beside the loss.
        remark: Sentences in the model card on how the term changes the other figures.
    """

    graphs: Callable[[Sequence[SceneGraph]], Iterable[SceneGraph]] = lambda _: ()
    names: bool = False
    words: tuple[str, ...] = ()
    captions: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)
    teacher_passes: float = 0
    contrasts: Callable[[Batch, Sequence[int], Sequence[int]], Contrasts] | None = None
    concepts: ConceptWords | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What the terms of a run are made of once everything is loaded and encoded.

    Attributes:
        examples: Training set, N rows.
        names: Features of the graphs' words.
        captions: Rows -> features by name, (B, ...) each, of the texts that state
            their graphs.
        concept_text: Features of the text that modulates concepts, (1, ...) each; None without
            concepts.
        regions: Computes where each example's relation is from its boxes, N times (S,).
        layouts: Finds the boxes of each example's objects in its picture as it is shown, N of them.
        sampling_sigmas: Number of image tokens -> noise levels of the model's own four-step
            sampling, (4,) float32.
        image_tokens: Number of image tokens of the largest picture.
        num_layers: Number of the model's double blocks.
        reads: Kind of classifier -> names that its card may have for what makes its input.
        model_id: Name of the base model, for messages.
        seed: Random seed of the run.
        device: Device of the run.
    """

    examples: Sequence[SceneExample]
    names: NameFeatures
    captions: Callable[[Sequence[int]], Mapping[str, Tensor]]
    concept_text: Mapping[str, Tensor] | None
    regions: Callable[[], Sequence[Tensor]]
    layouts: Callable[[], Sequence[Layout]]
    sampling_sigmas: Callable[[int], Tensor]
    image_tokens: int
    num_layers: int
    reads: Mapping[str, Sequence[str]]
    model_id: str
    seed: int
    device: torch.device


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One forward pass of a training step, which all terms share.

    Attributes:
        number: Number of optimizer steps done.
        draws: Numbers that random draws follow from beside the seed: the number of the pass, 0.
        rows: Rows of the B examples.
        batch: The examples, encoded.
        objective: Runs the network, for a term that needs another forward pass.
        branches: The model's answer under the true graphs and, where there are contrasts that go
            through the network, under the negatives.
        contrasts: Negatives; None where no term compares any in this step.
        statements: Statements whose parts look on, B of them; empty where no maps are read.
        concepts: Words of each statement, in the order of its maps in ``branches``.
    """

    number: int
    draws: Sequence[int]
    rows: Sequence[int]
    batch: Batch
    objective: FlowMatchingObjective
    branches: Branches
    contrasts: Contrasts | None = None
    statements: Sequence[Triple] = ()
    concepts: Sequence[Sequence[str]] = ()


TermLoss = Callable[[Step], tuple[Tensor, Mapping[str, Tensor]]]
"""Step -> the term's loss, a scalar with gradient, and its further figures, scalars."""
