"""The negatives that a training step compares the true graphs with.

Everything drawn follows from (seed, pass, place) and the confusion table, which is part of
every checkpoint; so a resumed run draws what the uninterrupted one would have drawn.

Shapes: B examples, K negatives of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sgflux.data.examples import SceneExample, known_graphs
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import (
    NegativeKind,
    Negatives,
    NegativeUnavailableError,
)
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.training.randomness import derived_seed

_NAMES_PER_ROW = 8  # names that an object of one row may become

Confusion = Mapping[str, Mapping[str, float]]
"""True predicate -> what it is mistaken for -> how often."""


@dataclass(frozen=True)
class Contrast:
    """A negative, and the statement in which it differs.

    Attributes:
        graph: Graph that is not true of the picture, as far as the annotation says.
        true: The statement of the true graph, by name.
        false: The statement of the negative in its place, which is the same by name where only a
            twin of an object took its place; None where it was left out.
    """

    graph: SceneGraph
    true: Triple
    false: Triple | None


@dataclass(frozen=True)
class Contrasts:
    """K negatives of each of B examples.

    Attributes:
        asked: K lists of B contrasts, with a stand-in where an example has none.
        paired: K lists of B: whether the contrast is real.
        in_network: Whether the negatives go through the network.
    """

    asked: Sequence[Sequence[Contrast]]
    paired: Sequence[Sequence[bool]]
    in_network: bool

    @property
    def graphs(self) -> list[list[SceneGraph]]:
        """The graphs that go through the network, K lists of B, or nothing."""
        return [[one.graph for one in column] for column in self.asked if self.in_network]


@dataclass(frozen=True)
class ConfusionTable:
    """How often each predicate is mistaken for each other one.

    Attributes:
        step: Step before which the table was measured; 0 if it was not measured.
        weights: True predicate -> predicate that it is mistaken for -> how often.
    """

    step: int
    weights: Confusion

    @classmethod
    def uniform(cls, predicates: Sequence[str]) -> ConfusionTable:
        """The table before any measurement: each predicate is mistaken for all others alike."""
        return cls(0, {p: {q: 1.0 for q in predicates if q != p} for p in predicates})

    @classmethod
    def counted(cls, step: int, mistakes: Iterable[tuple[str, str, float]]) -> ConfusionTable:
        """The table from observations (true predicate, other predicate, preference).

        Args:
            step: Step before which they were made.
            mistakes: Observations, whose preference is 1 where the other predicate explained a
                picture better, 1/2 for a tie, else 0. Rates are smoothed, (sum + 1/2) / (n + 1), so
                that every predicate that was tried can be drawn.
        """
        sums: dict[str, dict[str, list[float]]] = {}
        for true, other, preferred in mistakes:
            sums.setdefault(true, {}).setdefault(other, []).append(preferred)
        weights = {
            true: {
                other: (sum(values) + 0.5) / (len(values) + 1)
                for other, values in sorted(row.items())
            }
            for true, row in sorted(sums.items())
        }
        return cls(step, weights)

    def to_state(self) -> dict[str, Any]:
        """The table as plain dictionaries and numbers, for a checkpoint."""
        return {"step": self.step, "weights": {p: dict(row) for p, row in self.weights.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ConfusionTable:
        """Read :meth:`to_state`'s form."""
        return cls(int(state["step"]), state["weights"])


class NegativeSampler:
    """Draws typed negatives of a data set's examples."""

    def __init__(
        self,
        examples: Sequence[SceneExample],
        *,
        weights: Mapping[str, float],
        count: int,
        seed: int,
        vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
        others: Sequence[str] | None = None,
    ) -> None:
        """Collect everything that is true of every picture.

        Args:
            examples: Training set.
            weights: Kind of negative -> how often it is drawn; 0 is never.
            count: Number K of negatives of each example.
            seed: Random seed of all draws.
            vocabulary: Known predicates, and which statements are the same.
            others: Replacements of the data set's predicate if it has one alone; None: every known
                one.

        Raises:
            SgfluxError: if no example has a negative of these kinds.
        """
        self._examples = examples
        self._known = known_graphs(examples)
        self._kinds = {NegativeKind(kind): weight for kind, weight in weights.items() if weight}
        self._count = count
        self._seed = seed
        self.vocabulary = vocabulary
        self.predicates = predicates_of(examples, vocabulary)
        # One predicate alone could not be replaced; then others stand in for it.
        self._replacing: Sequence[str] = self.predicates
        if len(self.predicates) < 2:
            self._replacing = vocabulary.names if others is None else others
        self._object_names: tuple[str, ...] = ()
        if NegativeKind.OBJECT in self._kinds:
            names = dict.fromkeys(name for one in examples for name in one.graph.objects)
            self._object_names = tuple(sorted(names))
        self.without = sum(not self._has_any(row) for row in range(len(examples)))
        if self.without == len(examples):
            raise SgfluxError(
                f"no training example has a negative of the kinds {[str(k) for k in self._kinds]}; "
                "give other weights of negatives, or lambda_rel_rank 0"
            )

    def statements(self) -> Iterator[SceneGraph]:
        """One-triple graphs with every statement that a negative may make; some are true."""
        seen: set[tuple[str, str, str]] = set()
        for row, example in enumerate(self._examples):
            names = self._replacements(row)
            for triple in example.graph.triples():
                subject, predicate, object_ = triple.subject, triple.predicate, triple.object
                made = [(object_, predicate, subject)]
                made += [
                    (subject, other, object_) for other in (*self._replacing, *self.inverses())
                ]
                for name in names:
                    made += [(name, predicate, object_), (subject, predicate, name)]
                for statement in made:
                    if statement not in seen:
                        seen.add(statement)
                        yield SceneGraph.from_triples([Triple(*statement)])

    def inverses(self) -> list[str]:
        """Predicates that a negative may have and the data set may not."""
        if NegativeKind.INVERSE not in self._kinds:
            return []
        found = (self.vocabulary.inverse(predicate) for predicate in self.predicates)
        return sorted({name for name in found if name is not None})

    def draw(
        self, rows: Sequence[int], *, numbers: Sequence[int], confusion: ConfusionTable
    ) -> list[list[Contrast | None]]:
        """K contrasts for each of B rows; None, K times, for a row that has no negative.

        Args:
            rows: Rows of B examples.
            numbers: Numbers that the draw follows from, beside the seed and the place in the batch.
            confusion: Weights of the hard negatives.

        Returns:
            K lists of B.
        """
        columns: list[list[Contrast | None]] = [[] for _ in range(self._count)]
        for place, row in enumerate(rows):
            example = self._examples[row]
            try:
                negatives = self._negatives(row, confusion.weights).draw_several(
                    self._count,
                    random.Random(derived_seed(self._seed, "contrast", *numbers, place)),
                    self._kinds,
                )
            except NegativeUnavailableError:
                negatives = ()
            for number, column in enumerate(columns):
                if not negatives:
                    column.append(None)
                    continue
                negative = negatives[number]
                is_changed = negative.kind is not NegativeKind.EDGE_DROP
                column.append(
                    Contrast(
                        graph=negative.graph,
                        true=example.graph.triples()[negative.index],
                        false=negative.graph.triples()[negative.index] if is_changed else None,
                    )
                )
        return columns

    def _replacements(self, row: int) -> list[str]:
        """A few names that an object of the row may become; each statement with one is encoded."""
        count = min(_NAMES_PER_ROW, len(self._object_names))
        draw = random.Random(derived_seed(self._seed, "object names", row))
        return draw.sample(self._object_names, count)

    def _negatives(self, row: int, confusion: Confusion) -> Negatives:
        example = self._examples[row]
        return Negatives(
            example.graph,
            vocabulary=self.vocabulary,
            known=self._known[example.picture],
            predicates=self._replacing,
            object_names=self._replacements(row),
            confusion=confusion if NegativeKind.HARD_PREDICATE in self._kinds else None,
        )

    def _has_any(self, row: int) -> bool:
        table = ConfusionTable.uniform(self.predicates).weights
        return not self._kinds.keys().isdisjoint(self._negatives(row, table).kinds())


def predicates_of(
    examples: Iterable[SceneExample], vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY
) -> tuple[str, ...]:
    """The vocabulary's predicates that occur in the graphs, sorted, without other words."""
    words = {p for example in examples for _, p, _ in example.graph.relationships}
    return tuple(sorted({vocabulary.canonical(word) for word in words if word in vocabulary}))


def replaced_predicates(
    example: SceneExample,
    *,
    predicates: Sequence[str],
    known: SceneGraph,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
) -> dict[str, SceneGraph]:
    """The example's graph with its own triple's predicate replaced by each one that is false.

    Args:
        example: One row.
        predicates: Replacements to try.
        known: Everything that is true of the picture.
        vocabulary: Known predicates, and which statements are the same.
    """
    subject, _, object_ = example.graph.relationships[example.triple_index]
    alone = SceneGraph(
        objects=(example.triple.subject, example.triple.object),
        relationships=((0, example.triple.predicate, 1),),
    )
    whole = Negatives(example.graph, known=known, vocabulary=vocabulary)
    found = {}
    for predicate in predicates:
        negatives = Negatives(alone, known=known, vocabulary=vocabulary, predicates=[predicate])
        if NegativeKind.PREDICATE not in negatives.kinds():
            continue
        # What follows from several statements together is known of the whole graph alone.
        if whole.may_be_true(replace(alone, relationships=((0, predicate, 1),))):
            continue
        entries = list(example.graph.relationships)
        entries[example.triple_index] = (subject, predicate, object_)
        found[predicate] = SceneGraph(objects=example.graph.objects, relationships=tuple(entries))
    return found
