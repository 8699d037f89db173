"""Validations in the course of a run, and the best adapter that they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from sgflux.models.adapter import GraphLoraModel
from sgflux.settings.validation import SelectBy, ValidationSettings
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.log.run_log import RunLog
from sgflux.training.processes.interruption import StopRequest
from sgflux.training.processes.processes import Processes
from sgflux.training.samples.sampler import Sampler, SampleResult
from sgflux.training.selection import Patience, can_choose, is_better
from sgflux.training.steps import OptimizerSteps
from sgflux.training.validation import ValidationResult

ExtraValidation = Callable[[GraphLoraModel, int], Mapping[str, float]]
"""(model with averaged weights and no training adapter, step) -> further figures for the log."""

Measured = tuple[ValidationResult | None, SampleResult | None]
"""Errors of the validation set and the drawn sample graphs; None for what a run does without."""


class Validations:
    """Measures the adapter of the moment, keeps the best one, and sees when none gets better.

    Attributes:
        last_step: Step after which the last validation was done; 0 before the first one.
        seconds: Duration of the last validation.
        metrics: Figures of the last validation.
        best: Best adapter so far; None before the first validation.
        patience: Rule that ends the run when validations stop getting better.
    """

    def __init__(
        self,
        preparation: Preparation,
        steps: OptimizerSteps,
        *,
        validation: ValidationSettings,
        selection: SelectBy,
        processes: Processes,
        folder: RunFolder,
        log: RunLog,
        sampler: Sampler | None,
        extra_validation: ExtraValidation | None,
    ) -> None:
        """Begin before the first validation.

        Args:
            preparation: Model and data of the run.
            steps: Optimizer steps, which have the weights.
            validation: Settings of the validations, and of an early end.
            selection: Way in which the best adapter is chosen.
            processes: Processes that share the work.
            folder: Folder of the run.
            log: Log of the run.
            sampler: Draws the sample graphs; None: there are none.
            extra_validation: Function that gives further figures; None: there are none.
        """
        self.last_step = 0
        self.seconds = 0.0
        self.metrics: dict[str, Any] = {}
        self.best: AdapterWeights | None = None
        self.patience = Patience(validation, by=selection)
        self._selection = selection
        self._data, self._steps = preparation, steps
        self._processes, self._folder, self._log = processes, folder, log
        self._sampler, self._extra_validation = sampler, extra_validation

    @property
    def are_wanted(self) -> bool:
        """Whether the run has a validation set or sample graphs."""
        return self._data.validator is not None or self._sampler is not None

    def measure(self, step: int, stop: StopRequest) -> Measured | None:
        """Measure the averaged weights after ``step``; None if a signal came on the way."""
        average = self._steps.average
        averaged = nullcontext() if average is None else average.swapped_in()
        with averaged, torch.no_grad():
            started = time.perf_counter()
            measured = self._measure(step, stop)
            if measured is not None:
                self.last_step = step
                self.seconds = time.perf_counter() - started
            return measured

    def _measure(self, step: int, stop: StopRequest) -> Measured | None:
        """Measure the errors and draw the sample graphs; None if a signal came on the way."""
        validator, sampler = self._data.validator, self._sampler
        result = drawn = None

        def should_stop() -> bool:
            # Several processes could not agree on where to stop, so they finish.
            return self._processes.count == 1 and stop.signal is not None

        started = time.perf_counter()
        if validator is not None:
            errors = validator.shared_errors(
                self._steps.objective, processes=self._processes, should_stop=should_stop
            )
            if errors is None:
                return None
            result = validator.summarize(errors)
        measured = time.perf_counter()
        if sampler is not None:
            with self._data.as_sampled():
                drawn = sampler.draw(step, should_stop=should_stop)
            if drawn is None:
                return None
        drawing = time.perf_counter() - measured
        extra = {}
        model = self._data.model
        is_needed = self._processes.is_main or model.flux.is_shared
        if self._extra_validation is not None and is_needed:
            with self._data.as_sampled():
                extra = dict(self._extra_validation(model, step))
        when = {"step": step, "epoch": self._data.plan.epochs(step)}
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

    def judge(self, step: int, measured: Measured) -> None:
        """Keep the adapter if it is the best so far, and say what was measured after ``step``."""
        result, drawn = measured
        self.metrics = {
            **({} if result is None else result.row()),
            **({} if drawn is None else drawn.figures()),
        }
        self.patience.see(self.metrics, step=step)
        is_best = self._keep_if_best(step)
        chosen_by = drawn if self._selection == "obeyed" else result
        for one in measured:
            is_shown = is_best and self._selection != "last" and one is chosen_by
            if one is not None:
                self._log.say(f"step {step}  {one}{'  (best so far)' if is_shown else ''}")

    def _keep_if_best(self, step: int) -> bool:
        """Keep the adapter if it is the best so far, in memory and as a file."""
        by = self._selection
        metrics = {**self.metrics, "select_by": by}
        if not can_choose(metrics, by=by):
            return False
        if self.best is not None and not is_better(metrics, self.best.metrics, by=by):
            return False
        self.best = self._steps.adapter(step, metrics)
        self._save_best()
        return True

    def _save_best(self) -> None:
        if self.best is not None and self._processes.is_main:
            self.best.save(self._folder.best)

    def load(self, state: TrainingState) -> None:
        """Go on after the validations that a checkpoint remembers."""
        self.last_step = state.validated_step
        self.metrics = dict(state.metrics or {})
        self.best = state.best
        if state.patience is not None:
            self.patience.load(state.patience)
        self._save_best()  # the file may be of a later step, which comes again
