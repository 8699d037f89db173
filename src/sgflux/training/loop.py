"""The loop: one optimizer step after another, with validation, checkpoints and metrics between."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.memory.attention_kernels import attention_kernel
from sgflux.errors import SgfluxError
from sgflux.models.adapter import GraphLoraModel
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.flow import FlowSettings
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.settings.run import RunSettings
from sgflux.settings.validation import SelectBy, ValidationSettings
from sgflux.training.batches.batch import Batch, draw_batch
from sgflux.training.batches.bucket_order import BucketOrder
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, on_cpu, step_files
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.log.run_log import RunLog
from sgflux.training.log.stopwatch import Stopwatch
from sgflux.training.objective import FlowMatchingObjective
from sgflux.training.optimization import (
    Average,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)
from sgflux.training.processes.interruption import StopRequest
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import ExampleOrder, generator_for
from sgflux.training.samples.sampler import Sampler, SampleResult
from sgflux.training.selection import Patience, can_choose, is_better
from sgflux.training.terms.loss import TrainingLoss
from sgflux.training.terms.ranking.negatives import ConfusionTable
from sgflux.training.validation import ValidationResult

ExtraValidation = Callable[[GraphLoraModel, int], Mapping[str, float]]
"""(model with averaged weights and no training adapter, step) -> further figures for the log."""


class NotFiniteError(SgfluxError):
    """A loss or gradient is no number any more; the message names the step and the way out."""


class TrainingRun:
    """A run between its first step and its last one.

    Attributes:
        step: Number of optimizer steps done.
        best: Best adapter so far; None before the first validation.
    """

    def __init__(
        self,
        preparation: Preparation,
        *,
        optimizer: OptimizerSettings,
        conditions: ConditionSettings,
        flow: FlowSettings,
        run: RunSettings,
        validation: ValidationSettings,
        selection: SelectBy,
        recompute_every: int,
        settings: Mapping[str, Any],
        processes: Processes,
        folder: RunFolder,
        log: RunLog,
        sampler: Sampler | None = None,
        extra_validation: ExtraValidation | None = None,
    ) -> None:
        """Set up the optimizer and what goes with it; nothing is written yet.

        Args:
            preparation: Model and data of the run.
            optimizer: Settings of the optimizer.
            conditions: Texts and graphs that the pictures come with.
            flow: Noise levels.
            run: Seed of the run, and how often it logs and saves.
            validation: Settings of the validations, and of an early end.
            selection: Way in which the best adapter is chosen.
            recompute_every: Every n-th block is recomputed in the backward pass; 0: none.
            settings: All settings of the run as JSON has them, for its checkpoints.
            processes: Processes that share the work.
            folder: Folder of the run.
            log: Log of the run.
            sampler: Draws the sample graphs in each validation; None: there are none.
            extra_validation: Function that is called after each validation.
        """
        self.step = 0
        self.best: AdapterWeights | None = None
        self._settings, self._conditions, self._flow = optimizer, conditions, flow
        self._run, self._val_every, self._selection = run, validation.val_every, selection
        self._patience = Patience(validation, by=selection)
        self._stored = settings
        self._plan = preparation.plan
        self._data = preparation
        self._processes = processes
        self._folder = folder
        self._log = log
        self._sampler = sampler
        self._extra_validation = extra_validation

        self._model = preparation.model
        self._weights = self._model.trainable_parameters()
        self._weight_list = list(self._weights.values())
        self._gradients = processes.gradients(self._weight_list)
        self._optimizer = make_optimizer(
            self._weights,
            lr=optimizer.lr,
            weight_decay=optimizer.weight_decay,
            gate_lr_scale=optimizer.gate_lr_scale,
        )
        self._average = (
            Average(self._weights, decay=optimizer.ema_decay) if optimizer.ema_decay else None
        )
        self._objective = FlowMatchingObjective(
            self._model,
            dtype=preparation.dtype,
            guidance=preparation.guidance,
            gradient_checkpointing=recompute_every,
            training_adapter=preparation.training_adapter,
        )
        self._loss = TrainingLoss(preparation.terms, preparation.parts, objective=self._objective)
        sizes = preparation.train.sizes
        self._order = (
            BucketOrder(sizes, batch_size=optimizer.batch_size, seed=run.seed)
            if sizes
            else ExampleOrder(num_examples=self._plan.train_examples, seed=run.seed)
        )
        self._validated_step = 0
        self._validation_seconds = 0.0
        self._metrics: dict[str, Any] = {}
        # (loss, gradient norm, the terms' figures) of the steps that nobody has looked at yet,
        # still on the device.
        self._unread: list[Tensor] = []
        self._window: list[list[float]] = []
        self._stopwatch = Stopwatch()

    # -- the loop ------------------------------------------------------------------------------

    def loop(self) -> int | None:
        """Train up to the last step, until validation stops getting better, or a signal comes.

        Returns:
            The signal that ended it early, or None.
        """
        with StopRequest() as stop:
            self._stopwatch.restart()
            # A run that was stopped during a validation catches up on it first.
            stopped_by = self._validate_if_due(stop)
            while stopped_by is None and self._goes_on:
                self._measure_confusion_if_due()
                stopped_by = self.train_step(stop)
                self._log.advance()
                if self.step % self._run.log_every == 0 or self.step == self._plan.max_steps:
                    self._log_training()
                if stopped_by is None:
                    stopped_by = self._validate_if_due(stop)
                if stopped_by is None and self._is_due(self._run.save_every):
                    self.save()
            if stopped_by is not None:
                self.save()
            elif self.step < self._plan.max_steps:
                if self._unread or self._window:
                    self._log_training()
                self._log.say(f"the run ends early, after step {self.step}: {self._patience}")
                self.save()
            return stopped_by

    @property
    def _goes_on(self) -> bool:
        """Whether there is another step."""
        return self.step < self._plan.max_steps and not self._patience.is_over

    def _is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last, happens now."""
        if self.step == 0:
            return False
        return self.step == self._plan.max_steps or bool(every and self.step % every == 0)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what is logged of the loss beside its sum."""
        return self._loss.names

    def train_step(self, stop: StopRequest) -> int | None:
        """One optimizer step, without the validations and checkpoints between two of them.

        Returns:
            The signal that came to any of the processes, or None.
        """
        settings = self._settings
        factor = learning_rate_factor(
            self.step,
            warmup_steps=self._plan.warmup_steps,
            max_steps=self._plan.max_steps,
            floor=settings.lr_floor,
        )
        set_learning_rate(self._optimizer, factor)
        figures = self._accumulate_gradients()
        figures, stopped_by = self._share(figures, stop)
        gradients = [weight.grad for weight in self._weight_list if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self._weight_list, settings.max_grad_norm, norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self._average is not None:
            self._average.update(self.step)
        self._unread.append(torch.cat([figures[:1], norm[None], figures[1:]]))
        return stopped_by

    def _accumulate_gradients(self) -> Tensor:
        """Forward and backward of this process' share of a step.

        Returns:
            Its mean loss and the means of the terms' figures, (1 + F,).
        """
        settings, processes = self._settings, self._processes
        passes = processes.passes(self._plan.passes)
        total = torch.zeros(1 + len(self._loss.names), device=processes.device)
        for part, (place, divisor) in enumerate(passes, start=1):
            # Whatever is drawn follows from the pass, so that it does not matter who does it.
            number = self.step * self._plan.passes + place
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
                boxes=self._data.boxes,
                generator=generator_for(self._run.seed, "batch", number, 0),
            ).to(processes.device)
            kept_here = self._gradients.kept_here(part < len(passes))
            with self._attention_kernel(batch), kept_here:
                loss, figures = self._gradients(
                    partial(self._loss, batch, rows, step=self.step, draws=(number, 0))
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

    # -- metrics -------------------------------------------------------------------------------

    def _read(self) -> None:
        """Wait for the device, and stop if a loss or gradient since the last look is not finite."""
        if not self._unread:
            return
        rows = torch.stack(self._unread).tolist()
        first = self.step - len(rows) + 1
        self._unread.clear()
        for step, (loss, norm, *figures) in enumerate(rows, start=first):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"loss ({loss})" if not math.isfinite(loss) else f"gradient norm ({norm})"
                saved = list(step_files(self._folder.root).values())
                way_out = (
                    f"the last good checkpoint is {saved[-1]}" if saved else "nothing was saved yet"
                )
                raise NotFiniteError(
                    f"the {what} of step {step} is not finite; {way_out}. A lower lr, a longer "
                    "warmup, or dtype fp32 usually helps; these make a new run"
                )
            self._window.append([loss, norm, *figures])

    def _log_training(self) -> None:
        self._read()
        seconds = self._stopwatch.restart()
        steps = len(self._window)
        loss, norm, *figures = (sum(values) / steps for values in zip(*self._window, strict=True))
        self._window.clear()
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": self._position / self._plan.train_examples,
            "loss": loss,
            "grad_norm": norm,
            "lr": self._optimizer.param_groups[0]["lr"],
            "steps_per_second": steps / seconds,
            "examples_per_second": steps * self._plan.examples_per_step / seconds,
        }
        row |= self._loss.row(dict(zip(self._loss.names, figures, strict=True)))
        if self._processes.device.type == "cuda":
            row["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self._log.train(
            row,
            max_steps=self._plan.max_steps,
            pauses=self._validations_left() * self._validation_seconds,
            may_end_early=self._patience.may_end_early,
            shown=self._loss.shown,
        )

    def _validations_left(self) -> int:
        """Number of validations that are still to come."""
        every, last = self._val_every or self._plan.max_steps, self._plan.max_steps
        return -(-last // every) - self._validated_step // every

    @property
    def _position(self) -> int:
        return self.step * self._plan.examples_per_step

    # -- hard negatives ------------------------------------------------------------------------

    def _measure_confusion_if_due(self) -> None:
        """Measure which predicates the model confuses now, once in so many steps."""
        ranking, validator = self._loss.ranking, self._data.validator
        if ranking is None or validator is None or not ranking.is_due(self.step):
            return
        with self._stopwatch.paused():
            line = ranking.measure(self.step, validator, self._objective, processes=self._processes)
        self._log.say(line)

    # -- validation ----------------------------------------------------------------------------

    def _validate_if_due(self, stop: StopRequest) -> int | None:
        """Validate unless it was done after this step; returns the signal that cut it short."""
        validates = self._data.validator is not None or self._sampler is not None
        if not validates or not self._is_due(self._val_every) or self._validated_step == self.step:
            return None
        self._read()
        averaged = nullcontext() if self._average is None else self._average.swapped_in()
        with self._stopwatch.paused(), averaged, torch.no_grad():
            started = time.perf_counter()
            measured = self._measure(stop)
            if measured is None:
                return stop.signal
            self._validated_step = self.step
            self._validation_seconds = time.perf_counter() - started
        result, drawn = measured
        self._metrics = {
            **({} if result is None else result.row()),
            **({} if drawn is None else drawn.figures()),
        }
        self._patience.see(self._metrics, step=self.step)
        is_best = self._keep_if_best(self._metrics)
        chosen_by = drawn if self._selection == "obeyed" else result
        for one in (result, drawn):
            is_shown = is_best and self._selection != "last" and one is chosen_by
            if one is not None:
                self._log.say(f"step {self.step}  {one}{'  (best so far)' if is_shown else ''}")
        # Several processes agree at the end of a step, see _share.
        return stop.signal if self._processes.count == 1 else None

    def _measure(
        self, stop: StopRequest
    ) -> tuple[ValidationResult | None, SampleResult | None] | None:
        """Measure the errors and draw the sample graphs; None if a signal came on the way."""
        validator, sampler = self._data.validator, self._sampler
        result = drawn = None

        def should_stop() -> bool:
            # Several processes could not agree on where to stop, so they finish.
            return self._processes.count == 1 and stop.signal is not None

        started = time.perf_counter()
        if validator is not None:
            errors = validator.shared_errors(
                self._objective, processes=self._processes, should_stop=should_stop
            )
            if errors is None:
                return None
            result = validator.summarize(errors)
        measured = time.perf_counter()
        if sampler is not None:
            with self._data.as_sampled():
                drawn = sampler.draw(self.step, should_stop=should_stop)
            if drawn is None:
                return None
        drawing = time.perf_counter() - measured
        extra = {}
        is_needed = self._processes.is_main or self._model.flux.is_shared
        if self._extra_validation is not None and is_needed:
            with self._data.as_sampled():
                extra = dict(self._extra_validation(self._model, self.step))
        when = {"step": self.step, "epoch": self._position / self._plan.train_examples}
        if result is not None:
            seconds = time.perf_counter() - started - drawing
            self._log.validation({**when, **result.row(), "seconds": seconds, **extra})
        if drawn is not None and self._processes.is_main:
            drawn.save(self._folder.root)
            self._log.samples(
                {**when, **drawn.row(), "seconds": drawing},
                pictures=drawn.pictures,
                sheet=self._folder.root / drawn.sheet,
            )
        return result, drawn

    def _keep_if_best(self, figures: Mapping[str, Any]) -> bool:
        """Keep the adapter if it is the best so far, in memory and as a file."""
        by = self._selection
        metrics = {**figures, "select_by": by}
        if not can_choose(metrics, by=by):
            return False
        if self.best is not None and not is_better(metrics, self.best.metrics, by=by):
            return False
        self.best = self._adapter_weights(metrics)
        if self._processes.is_main:
            self.best.save(self._folder.best)
        return True

    # -- saving --------------------------------------------------------------------------------

    def _adapter_weights(self, metrics: dict[str, Any]) -> AdapterWeights:
        return AdapterWeights(
            step=self.step,
            trainable=on_cpu(self._weights),
            ema=None if self._average is None else on_cpu(self._average.values),
            adapter=self._data.adapter.to_json(),
            metrics=metrics,
        )

    def state(self) -> TrainingState:
        """Everything that resuming needs, on the CPU where it is copied at all."""
        ranking = self._loss.ranking
        return TrainingState(
            step=self.step,
            epoch=self._position // self._plan.train_examples,
            position=self._position,
            trainable={name: weight.detach() for name, weight in self._weights.items()},
            ema=None if self._average is None else self._average.values,
            optimizer=self._optimizer.state_dict(),
            rng=torch.get_rng_state(),
            config=dict(self._stored),
            adapter=self._data.adapter.to_json(),
            data=self._data.digests,
            content=self._data.content,
            processes=self._processes.count,
            passes=self._plan.passes,
            validated_step=self._validated_step,
            best=self.best,
            confusion=None if ranking is None else ranking.confusion.to_state(),
            patience=self._patience.to_state(),
        )

    def save(self) -> None:
        """Write step{N}.pt."""
        self._read()
        with self._stopwatch.paused():
            if self._processes.is_main:
                self.state().save(self._folder.step(self.step))
                self._folder.prune(keep=self._run.keep_checkpoints)
            self._processes.wait()

    def resume(self, state: TrainingState) -> None:
        """Go on where ``state`` was saved."""
        self._model.load_trainable_state(state.trainable)
        if self._average is not None and state.ema is not None:
            self._average.load(state.ema)
        self._optimizer.load_state_dict(state.optimizer)
        torch.set_rng_state(state.rng)
        self.step = state.step
        self._validated_step = state.validated_step
        self.best = state.best
        if state.patience is not None:
            self._patience.load(state.patience)
        if state.confusion is not None and self._loss.ranking is not None:
            self._loss.ranking.confusion = ConfusionTable.from_state(state.confusion)
        if self.best is not None and self._processes.is_main:
            # The file may be of a later step, which comes again.
            self.best.save(self._folder.best)

    def finished(self) -> AdapterWeights:
        """The adapter after the last step, for ``final_graph_lora_{mode}.pt``."""
        return self._adapter_weights(self._metrics)
