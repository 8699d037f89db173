"""The order in which a run with aspect buckets shows its examples: batches of one size each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sgflux.data.buckets import Size
from sgflux.training.randomness import ExampleOrder, derived_seed, generator_for


def batches_by(epoch: int, *, examples: int, batch_size: int) -> int:
    """Batches that a bucket has given by the end of so many epochs: enough to show all that often.

    The last batch of an epoch is filled from the next one, which is shorter by that much.
    """
    return -(-epoch * examples // batch_size)


class BucketOrder:
    """The endless sequence of batches of a data set whose examples have several sizes.

    Each bucket is an endless sequence of permutations of its own, cut into whole batches: a batch
    may span two of its epochs, so that every batch is full (the mean over a step's batches is the
    mean over its examples), no example is dropped, and within a bucket none is shown more than once
    more than another. Each epoch shuffles the batches of all buckets anew. All of it follows from
    (seed, epoch, number of the batch), whatever was drawn before.
    """

    def __init__(self, sizes: Sequence[Size], *, batch_size: int, seed: int) -> None:
        """Sort the examples by size.

        Args:
            sizes: Size of each of the N examples' pictures.
            batch_size: Number of examples in a batch.
            seed: Random seed of the run.
        """
        rows: dict[Size, list[int]] = {}
        for row, size in enumerate(sizes):
            rows.setdefault(size, []).append(row)
        self._rows = [rows[size] for size in sorted(rows)]
        self._orders = [
            ExampleOrder(num_examples=len(own), seed=derived_seed(seed, "bucket", number))
            for number, own in enumerate(self._rows)
        ]
        self._examples = len(sizes)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._schedule: list[int] = []

    def batch(self, number: int, size: int) -> list[int]:
        """The examples of a batch, all of one size.

        Args:
            number: Number of the batch, from 0.
            size: Number of examples in a batch, as in the constructor.
        """
        if size != self._batch_size:
            raise ValueError(f"the order is for batches of {self._batch_size}, not of {size}")
        # Every bucket rounds up: by the end of an epoch there are never fewer batches than this.
        epoch = number * size // self._examples
        while self._before(epoch) > number:
            epoch -= 1
        if epoch != self._epoch:
            self._schedule, self._epoch = self._shuffled(epoch), epoch
        place = number - self._before(epoch)
        bucket = self._schedule[place]
        own = self._given(bucket, epoch) + self._schedule[:place].count(bucket)
        return [self._rows[bucket][row] for row in self._orders[bucket].batch(own, size)]

    def _given(self, bucket: int, epoch: int) -> int:
        return batches_by(epoch, examples=len(self._rows[bucket]), batch_size=self._batch_size)

    def _before(self, epoch: int) -> int:
        """Batches of all buckets before an epoch."""
        return sum(self._given(bucket, epoch) for bucket in range(len(self._rows)))

    def _shuffled(self, epoch: int) -> list[int]:
        """The bucket of each batch of an epoch."""
        buckets = [
            bucket
            for bucket in range(len(self._rows))
            for _ in range(self._given(bucket, epoch + 1) - self._given(bucket, epoch))
        ]
        generator = generator_for(self._seed, "buckets", epoch)
        return [buckets[place] for place in torch.randperm(len(buckets), generator=generator)]
