"""What a run is going to do, worked out before it starts: its length, its shapes, its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sgflux.errors import SgfluxError
from sgflux.settings.optimizer import DEFAULT_EPOCHS, OptimizerSettings
from sgflux.training.batches.bucket_order import batches_by


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The numbers that follow from a config, a data set and a model.

    Attributes:
        train_examples: Number of training examples.
        val_examples: Number of examples judged in a validation; 0 without one.
        val_pairs: Number of these that have a negative.
        passes: Number of forward passes of a step, over all processes.
        examples_per_step: Number of examples of a step, in all its forward passes.
        max_steps: Number of optimizer steps.
        warmup_steps: Number of these that are warmup.
        block_start: First double block that the adapter changes.
        block_end: One past the last double block that the adapter changes.
        blocks_in_words: Blocks that the adapter changes.
        image_tokens: Number of image tokens of a sample; with aspect buckets, of the largest one.
        text_tokens: Number of text tokens of a sample.
        trainable: Number of trained weights.
        total: Number of weights of the transformer and the adapter.
        buckets: Number of sizes of the training pictures, with aspect buckets; else 0.
    """

    train_examples: int
    val_examples: int
    val_pairs: int
    passes: int
    examples_per_step: int
    max_steps: int
    warmup_steps: int
    block_start: int
    block_end: int
    blocks_in_words: str
    image_tokens: int
    text_tokens: int
    trainable: int
    total: int
    buckets: int = 0

    def position(self, step: int) -> int:
        """Number of examples that the run has seen after ``step`` steps."""
        return step * self.examples_per_step

    def epochs(self, step: int) -> float:
        """Number of passes over the training examples after ``step`` steps."""
        return self.position(step) / self.train_examples

    def lines(self) -> list[str]:
        """The plan in words."""
        epochs = self.epochs(self.max_steps)
        validation = (
            f"{self.val_examples} examples, {self.val_pairs} with a negative graph"
            if self.val_examples
            else "none: no best checkpoint will be chosen by it"
        )
        at_most = "up to " if self.buckets else ""
        return [
            f"training:   {self.train_examples} examples, {self.max_steps} steps of "
            f"{self.examples_per_step} ({epochs:.3g} epochs), {self.warmup_steps} of them warmup",
            f"validation: {validation}",
            f"tokens:     {at_most}{self.image_tokens} image + {self.text_tokens} text per sample",
            f"adapter:    {self.blocks_in_words}",
            f"weights:    {self.trainable:,} trained of {self.total:,}",
        ]


def length_of(
    optimizer: OptimizerSettings, *, examples: int, passes: int, bucket_counts: Sequence[int] = ()
) -> tuple[int, int]:
    """How long a run is.

    With aspect buckets an epoch ends with a whole batch of every bucket, see
    :class:`~sgflux.training.batches.bucket_order.BucketOrder`.

    Args:
        optimizer: Settings of the length and of the batches.
        examples: Number of training examples.
        passes: Number of forward passes of a step, over all processes.
        bucket_counts: Number of examples of each aspect bucket.

    Returns:
        Number of steps, and number of these that are warmup.

    Raises:
        SgfluxError: if the warmup is as long as the run.
    """
    steps = optimizer.max_steps
    if steps is None:
        epochs, batch = optimizer.epochs or DEFAULT_EPOCHS, optimizer.batch_size
        seen = epochs * examples
        if bucket_counts:
            seen = batch * sum(
                batches_by(epochs, examples=count, batch_size=batch) for count in bucket_counts
            )
        steps = math.ceil(seen / (batch * passes))
    warmup = optimizer.warmup_steps
    if warmup is None:
        warmup = min(100, steps // 20)
    elif warmup >= steps:
        raise SgfluxError(
            f"warmup_steps ({warmup}) must be less than the {steps} steps that {examples} "
            "examples make: the learning rate would never reach lr"
        )
    return steps, warmup
