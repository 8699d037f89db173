"""Seeds of all random numbers of a run, which follow from (seed, purpose, step or pass) alone.

So a resumed run draws what the uninterrupted one would have drawn, and neither validation nor
saving shifts what comes after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def derived_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A seed in [0, 2^63) of its own for every combination of arguments."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A generator on the CPU, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *numbers))


class ExampleOrder:
    """The endless sequence of training examples: one permutation after another.

    Position p is example permutation(seed, p // N)[p % N] of N. A batch may span two epochs, so
    no example is dropped or shown more often than another.

    With weights an epoch still has N positions, of which example i gets N w_i / sum(w), rounded
    down or up by chance (systematic resampling).
    """

    def __init__(
        self, *, num_examples: int, seed: int, weights: Sequence[float] | None = None
    ) -> None:
        """Keep the permutation of one epoch at a time.

        Args:
            num_examples: N.
            seed: Random seed of the run.
            weights: Frequencies of the examples in relation to one another, N numbers >= 0 with a
                finite sum > 0; None: all are equally frequent.
        """
        self.num_examples = num_examples
        self._seed = seed
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        self._epoch = -1
        self._permutation: list[int] = []

    def indices(self, position: int, count: int) -> list[int]:
        """The examples at ``position`` and the ``count - 1`` positions after it."""
        return [self._at(place) for place in range(position, position + count)]

    def batch(self, number: int, size: int) -> list[int]:
        """The examples of a batch: number 0 has the first ``size`` positions."""
        return self.indices(number * size, size)

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.num_examples)
        if epoch != self._epoch:
            generator = generator_for(self._seed, "order", epoch)
            order = torch.randperm(self.num_examples, generator=generator)
            if self._weights is not None:
                order = order[_resampled(self._weights[order], generator)]
            self._permutation, self._epoch = order.tolist(), epoch
        return self._permutation[place]


def power_weights(counts: Sequence[int], power: float) -> list[float]:
    """The power of each count, in relation to that of the largest one, which is 1.

    Args:
        counts: Numbers >= 1.
        power: Power >= 0, however large: what is far below 1 becomes 0.
    """
    largest = max(counts)
    return [(count / largest) ** power for count in counts]


def _resampled(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """N places of N, each as often as its weight asks for, in random order, (N,) int64."""
    count = len(weights)
    ends = weights.cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    marks = (torch.arange(count, dtype=torch.float64) + start) * (ends[-1] / count)
    places = torch.searchsorted(ends, marks, right=True).clamp(max=count - 1)
    return places[torch.randperm(count, generator=generator)]
