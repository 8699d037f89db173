"""What a run is going to do, worked out before it starts: its length, its shapes, its size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sgflux.config import DEFAULT_EPOCHS, TrainConfig
from sgflux.errors import SgfluxError


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The numbers that follow from a config, a data set and a model.

    Attributes:
        train_examples: in the training file.
        val_examples: judged in a validation; 0 without one.
        val_pairs: how many of these have a negative.
        examples_per_step: over all processes and accumulated forward passes.
        max_steps: optimizer steps.
        warmup_steps: of these.
        block_start: first double block that the adapter changes.
        block_end: one past the last.
        num_layers: double blocks of the model.
        image_tokens: per sample.
        text_tokens: per sample.
        trainable: trained numbers.
        total: numbers of the transformer and the adapter.
    """

    train_examples: int
    val_examples: int
    val_pairs: int
    examples_per_step: int
    max_steps: int
    warmup_steps: int
    block_start: int
    block_end: int
    num_layers: int
    image_tokens: int
    text_tokens: int
    trainable: int
    total: int

    def lines(self) -> list[str]:
        """The plan in words."""
        epochs = self.max_steps * self.examples_per_step / self.train_examples
        validation = (
            f"{self.val_examples} examples, {self.val_pairs} with a negative graph"
            if self.val_examples
            else "none: no best checkpoint will be chosen"
        )
        return [
            f"training:   {self.train_examples} examples, {self.max_steps} steps of "
            f"{self.examples_per_step} ({epochs:.3g} epochs), {self.warmup_steps} of them warmup",
            f"validation: {validation}",
            f"tokens:     {self.image_tokens} image + {self.text_tokens} text per sample",
            f"adapter:    double blocks {self.block_start} to {self.block_end - 1} "
            f"of {self.num_layers}",
            f"weights:    {self.trainable:,} trained of {self.total:,}",
        ]


def make_plan(
    config: TrainConfig,
    *,
    train_examples: int,
    val_examples: int,
    val_pairs: int,
    processes: int,
    block_range: tuple[int, int],
    num_layers: int,
    image_tokens: int,
    text_tokens: int,
    trainable: int,
    total: int,
) -> RunPlan:
    """Add what follows from these numbers.

    Raises:
        SgfluxError: if the warmup is as long as the run.
    """
    per_step = config.batch_size * config.gradient_accumulation_steps * processes
    steps = config.max_steps
    if steps is None:
        steps = math.ceil((config.epochs or DEFAULT_EPOCHS) * train_examples / per_step)
    warmup = config.warmup_steps
    if warmup is None:
        warmup = min(100, steps // 20)
    elif warmup >= steps:
        raise SgfluxError(
            f"warmup_steps ({warmup}) must be less than the {steps} steps that "
            f"{train_examples} examples make: the learning rate would never reach lr"
        )
    start, end = block_range
    return RunPlan(
        train_examples=train_examples,
        val_examples=val_examples,
        val_pairs=val_pairs,
        examples_per_step=per_step,
        max_steps=steps,
        warmup_steps=warmup,
        block_start=start,
        block_end=end,
        num_layers=num_layers,
        image_tokens=image_tokens,
        text_tokens=text_tokens,
        trainable=trainable,
        total=total,
    )
