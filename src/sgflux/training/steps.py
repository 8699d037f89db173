"""Optimizer steps of a run: gradients of all passes, clipping, AdamW and the moving average.

Shapes: F figures of the loss.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.memory.attention_kernels import attention_kernel
from sgflux.data.examples import SceneExample
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.flow import FlowSettings
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.training.batches.batch import Batch, draw_batch
from sgflux.training.batches.bucket_order import BucketOrder
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, on_cpu
from sgflux.training.objective import FlowMatchingObjective
from sgflux.training.optimization import (
    Average,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)
from sgflux.training.processes.interruption import StopRequest
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import ExampleOrder, generator_for, power_weights
from sgflux.training.terms.loss import TrainingLoss


class OptimizerSteps:
    """Takes the optimizer steps of a run.

    Attributes:
        weights: Trained weights by name.
        average: Moving average of the weights; None without one.
        objective: Objective that runs the network.
        loss: Loss of a forward pass.
    """

    def __init__(
        self,
        preparation: Preparation,
        *,
        optimizer: OptimizerSettings,
        conditions: ConditionSettings,
        flow: FlowSettings,
        seed: int,
        recompute_every: int,
        processes: Processes,
    ) -> None:
        """Set up the optimizer, before the first step.

        Args:
            preparation: Model and data of the run.
            optimizer: Settings of the optimizer.
            conditions: Texts and graphs that the pictures come with.
            flow: Noise levels.
            seed: Random seed of the run.
            recompute_every: Every n-th block is recomputed in the backward pass; 0: none.
            processes: Processes that share the work.
        """
        self._settings, self._conditions, self._flow = optimizer, conditions, flow
        self._seed = seed
        self._plan = preparation.plan
        self._data = preparation
        self._processes = processes
        self._model = preparation.model
        self.weights = self._model.trainable_parameters()
        self._weight_list = list(self.weights.values())
        self._gradients = processes.gradients(self._weight_list)
        self._optimizer = make_optimizer(
            self.weights,
            lr=optimizer.lr,
            weight_decay=optimizer.weight_decay,
            gate_lr_scale=optimizer.gate_lr_scale,
        )
        self.average = (
            Average(self.weights, decay=optimizer.ema_decay) if optimizer.ema_decay else None
        )
        self.objective = FlowMatchingObjective(
            self._model,
            dtype=preparation.dtype,
            guidance=preparation.guidance,
            gradient_checkpointing=recompute_every,
            training_adapter=preparation.training_adapter,
        )
        self.loss = TrainingLoss(preparation.terms, preparation.parts, objective=self.objective)
        sizes = preparation.train.sizes
        self._order = (
            BucketOrder(sizes, batch_size=optimizer.batch_size, seed=seed)
            if sizes
            else ExampleOrder(
                num_examples=self._plan.train_examples,
                seed=seed,
                weights=_example_weights(
                    preparation.train.examples, statement_power=optimizer.statement_power
                ),
            )
        )

    def take(self, step: int, stop: StopRequest) -> tuple[Tensor, int | None]:
        """Take one optimizer step.

        Args:
            step: Number of optimizer steps done.
            stop: Request of this process to stop.

        Returns:
            Mean loss over the passes, norm of the gradient before it is clipped, and the means of
            the terms' figures, (2 + F,) on the device; the signal that came to any process, or
            None.
        """
        settings = self._settings
        factor = learning_rate_factor(
            step,
            warmup_steps=self._plan.warmup_steps,
            max_steps=self._plan.max_steps,
            floor=settings.lr_floor,
        )
        set_learning_rate(self._optimizer, factor)
        figures = self._accumulate_gradients(step)
        figures, stopped_by = self._share(figures, stop)
        gradients = [weight.grad for weight in self._weight_list if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self._weight_list, settings.max_grad_norm, norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step + 1)
        return torch.cat([figures[:1], norm[None], figures[1:]]), stopped_by

    def _accumulate_gradients(self, step: int) -> Tensor:
        """Forward and backward of this process' share of a step.

        Returns:
            Its mean loss and the means of the terms' figures, (1 + F,).
        """
        settings, processes = self._settings, self._processes
        passes = processes.passes(self._plan.passes)
        total = torch.zeros(1 + len(self.loss.names), device=processes.device)
        for part, (place, divisor) in enumerate(passes, start=1):
            # Whatever is drawn follows from the pass, so that it does not matter who does it.
            number = step * self._plan.passes + place
            rows = self._order.batch(number, settings.batch_size)
            batch = draw_batch(
                self._data.train,
                rows,
                latent_scale=self._data.latent_scale,
                prompt_weights=self._conditions.texts.weights(),
                null_graph_probability=self._conditions.null_graph_probability,
                sigma_scheme=self._flow.sigma_scheme,
                t_min=self._flow.t_min,
                t_max=self._flow.t_max,
                sigma_shift=self._data.sigma_shift_of(rows),
                band=self._flow.band,
                boxes=self._data.boxes,
                generator=generator_for(self._seed, "batch", number, 0),
            ).to(processes.device)
            kept_here = self._gradients.kept_here(part < len(passes))
            with self._attention_kernel(batch), kept_here:
                loss, figures = self._gradients(
                    partial(self.loss, batch, rows, step=step, draws=(number, 0))
                )
                loss = loss / divisor
                loss.backward()
            total += torch.cat([loss.detach()[None], figures / divisor])
        self._gradients.complete()
        return total

    def _attention_kernel(self, batch: Batch) -> AbstractContextManager[object]:
        """The attention kernels of a pass with this batch."""
        image_tokens = math.prod(self._model.flux.network.grid(batch.latents))
        return attention_kernel(
            self._processes.device,
            dtype=self._data.dtype,
            tokens=self._data.adapter.max_sequence_length + image_tokens,
        )

    def _share(self, figures: Tensor, stop: StopRequest) -> tuple[Tensor, int | None]:
        """Average the figures over the processes, which also agree on whether to stop."""
        own = stop.signal or 0
        if self._processes.count == 1:
            return figures, own or None
        extra = torch.cat([figures, figures.new_full((1,), float(own))])
        extra = self._processes.average_(extra)
        # The launcher passes a signal on to every process, but not in the same step.
        came = float(extra[-1]) * self._processes.count
        return extra[:-1], (own or signal.SIGTERM) if came else None

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        rate: float = self._optimizer.param_groups[0]["lr"]
        return rate

    def adapter(self, step: int, metrics: dict[str, Any]) -> AdapterWeights:
        """Return a copy of the weights and their average, on the CPU.

        Args:
            step: Number of optimizer steps done.
            metrics: Figures of the adapter that are kept with it.
        """
        return AdapterWeights(
            step=step,
            trainable=on_cpu(self.weights),
            ema=None if self.average is None else on_cpu(self.average.values),
            adapter=self._data.adapter.to_json(),
            metrics=metrics,
        )

    def optimizer_state(self) -> dict[str, Any]:
        """Return the state of AdamW, as torch has it."""
        return self._optimizer.state_dict()

    def load(self, state: TrainingState) -> None:
        """Take over the weights, their average and the optimizer of a checkpoint.

        Raises:
            SgfluxError: if they are not those of this run's model.
        """
        self._model.load_trainable_state(state.trainable)
        if self.average is not None and state.ema is not None:
            self.average.load(state.ema)
        self._optimizer.load_state_dict(state.optimizer)


def _example_weights(
    examples: Sequence[SceneExample], *, statement_power: float
) -> list[float] | None:
    """How often each example is shown in relation to the others; None: all equally often."""
    if not statement_power:
        return None
    counts = [max(1, len(one.graph.relationships)) for one in examples]
    return power_weights(counts, statement_power)
