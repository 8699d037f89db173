"""Validation on a fixed grid of (sigma, noise): how well each picture is explained, and by what.

Every example is judged under its true graph, under no graph, and under a negative, which is not
true of the picture, on the same latents, noise and sigma. e(g+) < e(g-) needs no sampling and no
judge. The errors stand beside it, since it does not tell them: with a guided teacher
(--lambda-words) the error under g+ is larger than without a graph, and a ranking can improve while
both errors get worse.

Shapes: V validation examples, K sigmas.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sgflux.data.buckets import Size
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.examples import SceneExample, known_graphs
from sgflux.data.prompts import PROMPT_KINDS, PromptKind
from sgflux.graphs.negatives import (
    Negative,
    NegativeKind,
    Negatives,
    NegativeUnavailableError,
)
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.training.batches.batch import Batch, LatentScale
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import derived_seed, generator_for
from sgflux.training.terms.errors import ranking_accuracy

NEGATIVE_KINDS = {NegativeKind.ROLE_SWAP: 1.0, NegativeKind.PREDICATE: 1.0}
"""Kind of negative -> weight. An adapter learns the predicate long before it learns which thing is
the subject, so both kinds are used, equally often where both exist."""


class ErrorOf(Protocol):
    """e(g) of a batch under several alternative lists of graphs."""

    def __call__(self, batch: Batch, alternatives: Sequence[Sequence[SceneGraph]]) -> list[Tensor]:
        """One (B,) float32 per alternative, all on the batch's latents, noise and sigma."""


@dataclass(frozen=True)
class ValidationItem:
    """One validation example.

    Attributes:
        row: Row of the example.
        graph: Graph of the example.
        negative: Negative that is compared with it; None where there is none.
        known: All that is true of its picture, by name, as far as any row of the file says.
    """

    row: int
    graph: SceneGraph
    negative: Negative | None
    known: SceneGraph


@dataclass(frozen=True)
class ValidationResult:
    """The mean errors, and how often the true graph has the smaller one.

    Attributes:
        loss: Error e(g+) over all examples and sigmas.
        loss_null: Error without a graph.
        loss_negative: Error e(g-) over the examples that have a negative; None without any.
        negative_gap: Difference e(g-) - e(g+) over the same examples; None without any.
        ranking_accuracy: Share of pairs with e(g+) < e(g-), ties one half; None without any.
        ranking_n: Number of pairs.
        ranking_by_kind: Ranking accuracy by kind of negative.
        by_sigma: One dictionary for each sigma: sigma, loss, loss_null, loss_negative,
            ranking_accuracy.
    """

    loss: float
    loss_null: float
    loss_negative: float | None
    negative_gap: float | None
    ranking_accuracy: float | None
    ranking_n: int
    ranking_by_kind: dict[str, float]
    by_sigma: list[dict[str, float | None]]

    def row(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        return dict(vars(self))

    def __str__(self) -> str:
        """One line for a log."""
        text = f"validation loss {self.loss:.4f}, without graph {self.loss_null:.4f}"
        if self.ranking_accuracy is not None:
            text += (
                f", negative graph {self.loss_negative:.4f}, "
                f"ranking accuracy {self.ranking_accuracy:.3f}"
            )
        return text


def choose_items(
    examples: Sequence[SceneExample],
    *,
    count: int,
    predicates: Iterable[str],
    seed: int,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
) -> list[ValidationItem]:
    """Up to ``count`` examples, spread evenly over the file, each with its negative.

    Args:
        examples: Validation set.
        count: Number of examples to choose; 0 means all.
        predicates: Predicates that a wrong one is chosen from; words outside of the vocabulary are
            not used.
        seed: Seed of the negatives, which are the same in every validation of a run.
        vocabulary: Known predicates, and which statements are the same.
    """
    count = min(count, len(examples)) or len(examples)
    true_of = known_graphs(examples)
    choices = sorted({vocabulary.canonical(word) for word in predicates if word in vocabulary})
    items = []
    for place in range(count):
        row = place * len(examples) // count
        example = examples[row]
        known = true_of[example.picture]
        try:
            negative = Negatives(
                example.graph,
                vocabulary=vocabulary,
                known=known,
                predicates=choices if len(choices) > 1 else None,
            ).draw(random.Random(derived_seed(seed, "negative", row)), NEGATIVE_KINDS)
        except NegativeUnavailableError:
            negative = None
        items.append(ValidationItem(row, example.graph, negative, known))
    return items


class Validator:
    """Measures the errors of all items on the fixed grid of noise levels."""

    def __init__(
        self,
        arrays: TrainingArrays,
        items: Sequence[ValidationItem],
        *,
        sigmas: Sequence[float],
        latent_scale: LatentScale,
        prompt_kind: PromptKind,
        seed: int,
        batch_size: int,
    ) -> None:
        """Keep the parts.

        Args:
            arrays: Encoded validation set.
            items: Examples of it that are judged, with their negatives.
            sigmas: K noise levels.
            latent_scale: Shift and scale of the autoencoder that encoded it.
            prompt_kind: Kind of text that every example gets.
            seed: Seed of the noise, which depends on the example and the sigma alone.
            batch_size: Number of examples at once; the errors do not depend on it.
        """
        self.items = list(items)
        self.sigmas = tuple(sigmas)
        self._arrays = arrays
        self._latent_scale = latent_scale
        self._prompt_kind = prompt_kind
        self._seed = seed
        self.batch_size = batch_size

    def errors(
        self,
        error_of: ErrorOf,
        places: Sequence[int],
        *,
        device: torch.device,
        should_stop: Callable[[], bool],
        idle: int = 0,
    ) -> Tensor | None:
        """e(g+), e(no graph), e(g-) of the items at ``places``.

        Args:
            error_of: Computes e(g).
            places: Places of the items.
            device: Device of ``error_of``.
            should_stop: Function that says whether to stop on the way.
            idle: Number of batches that are measured for nothing, see :meth:`idle_batches`.

        Returns:
            (3, len(places), K) float32 on the CPU, with NaN where an item has no negative; None if
            it was asked to stop on the way.
        """
        columns = []
        chunks = self.chunks(places)
        walked = [place for chunk in chunks for place in chunk]
        column_of = {place: column for column, place in enumerate(walked)}
        in_order = [column_of[place] for place in places]
        for sigma_index in range(len(self.sigmas)):
            rows = []
            for chunk in (*chunks, *[[0]] * idle):
                if should_stop():
                    return None
                chosen = [self.items[place] for place in chunk]
                batch = self.batch(chosen, sigma_index).to(device)
                nulls = [SceneGraph.null()] * len(chosen)
                # A true graph stands in where there is no negative; its error is then discarded.
                negatives = [
                    item.graph if item.negative is None else item.negative.graph for item in chosen
                ]
                rows.append(torch.stack(error_of(batch, [batch.graphs, nulls, negatives])))
            rows = rows[: len(chunks)]
            columns.append(torch.cat(rows, dim=1) if rows else torch.empty(3, 0, device=device))
        errors = torch.stack(columns, dim=2).float().cpu()[:, in_order]
        without = [i for i, place in enumerate(places) if self.items[place].negative is None]
        errors[2, without] = math.nan
        return errors

    def shared_errors(
        self, error_of: ErrorOf, *, processes: Processes, should_stop: Callable[[], bool]
    ) -> Tensor | None:
        """As :meth:`errors`, of all items, each process measuring its share of them."""
        count = len(self.items)
        places = range(processes.index, count, processes.count)
        errors = self.errors(
            error_of,
            places,
            device=processes.device,
            should_stop=should_stop,
            idle=self.idle_batches(processes),
        )
        if errors is None or processes.count == 1:
            return errors
        everywhere = torch.empty(3, count, len(self.sigmas))
        for place, error in processes.gather(list(zip(places, errors.unbind(1), strict=True))):
            everywhere[:, place] = error
        return everywhere

    def idle_batches(self, processes: Processes) -> int:
        """Number of batches by which another process has more items than this one.

        Processes that share a base must call it equally often, so this one then measures its first
        item for nothing.
        """
        shares = (
            range(index, len(self.items), processes.count) for index in range(processes.count)
        )
        batches = [len(self.chunks(share)) for share in shares]
        return max(batches) - batches[processes.index]

    def chunks(self, places: Sequence[int]) -> list[list[int]]:
        """The places in batches whose pictures have one size each, in order as far as that goes."""
        sizes = self._arrays.sizes
        groups: dict[Size | None, list[int]] = {}
        for place in places:
            size = sizes[self.items[place].row] if sizes else None
            groups.setdefault(size, []).append(place)
        return [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]

    def example(self, item: ValidationItem) -> SceneExample:
        """The example that an item is about."""
        return self._arrays.examples[item.row]

    def batch(self, items: Sequence[ValidationItem], sigma_index: int) -> Batch:
        """The items at one noise level, on the CPU; always the same for the same items."""
        rows = torch.tensor([item.row for item in items], dtype=torch.int64)
        # The posterior's mean, so that validation adds no noise of its own.
        mean, _ = self._latent_scale.posterior(*self._arrays.posterior(rows))
        noise = torch.stack(
            [
                torch.randn(
                    mean.shape[1:],
                    generator=generator_for(self._seed, "validation", item.row, sigma_index),
                )
                for item in items
            ]
        )
        kind = torch.full_like(rows, PROMPT_KINDS.index(self._prompt_kind))
        return Batch(
            graphs=tuple(item.graph for item in items),
            latents=mean,
            noise=noise,
            sigma=torch.full((len(items),), self.sigmas[sigma_index]),
            text=self._arrays.text(rows, kind),
        )

    def summarize(self, errors: Tensor) -> ValidationResult:
        """The figures of all items' errors, (3, V, K) in the order of ``items``."""
        kinds = [None if item.negative is None else str(item.negative.kind) for item in self.items]
        return summarize(errors, kinds=kinds, sigmas=self.sigmas)


def summarize(
    errors: Tensor, *, kinds: Sequence[str | None], sigmas: Sequence[float]
) -> ValidationResult:
    """Means and ranking accuracy.

    Args:
        errors: Errors e(g+), e(no graph), e(g-), (3, V, K).
        kinds: Kind of each item's negative, V of them; None where it has none.
        sigmas: The K noise levels.
    """
    positive, null, negative = errors.double()
    paired = torch.tensor([kind is not None for kind in kinds], dtype=torch.bool)

    def of_pairs(
        measure: Callable[[Tensor, Tensor], Tensor], sigmas: int | slice = slice(None)
    ) -> float | None:
        """A measure of both errors of the items that have a negative; None without any."""
        if not bool(paired.any()):
            return None
        return float(measure(positive[paired, sigmas], negative[paired, sigmas]))

    by_kind = {}
    for kind in sorted(set(filter(None, kinds))):
        own = torch.tensor([other == kind for other in kinds], dtype=torch.bool)
        by_kind[kind] = float(ranking_accuracy(positive[own], negative[own]))
    return ValidationResult(
        loss=float(positive.mean()),
        loss_null=float(null.mean()),
        loss_negative=of_pairs(lambda _, false: false.mean()),
        negative_gap=of_pairs(lambda true, false: (false - true).mean()),
        ranking_accuracy=of_pairs(ranking_accuracy),
        ranking_n=int(paired.sum()) * len(sigmas),
        ranking_by_kind=by_kind,
        by_sigma=[
            {
                "sigma": float(sigma),
                "loss": float(positive[:, k].mean()),
                "loss_null": float(null[:, k].mean()),
                "loss_negative": of_pairs(lambda _, false: false.mean(), k),
                "ranking_accuracy": of_pairs(ranking_accuracy, k),
            }
            for k, sigma in enumerate(sigmas)
        ],
    )
