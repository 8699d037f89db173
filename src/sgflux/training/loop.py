"""The loop: one optimizer step after another, with validation, checkpoints and metrics between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.flow import FlowSettings
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.settings.run import RunSettings
from sgflux.settings.validation import SelectBy, ValidationSettings
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.log.peak_memory import PeakMemory
from sgflux.training.log.run_log import RunLog
from sgflux.training.log.stopwatch import Stopwatch
from sgflux.training.processes.interruption import StopRequest
from sgflux.training.processes.processes import Processes
from sgflux.training.run_validations import ExtraValidation, Validations
from sgflux.training.samples.sampler import Sampler
from sgflux.training.step_figures import StepFigures
from sgflux.training.steps import OptimizerSteps
from sgflux.training.terms.ranking.negatives import ConfusionTable


class TrainingRun:
    """A run between its first step and its last one.

    Attributes:
        step: Number of optimizer steps done.
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
        self._run, self._val_every = run, validation.val_every
        self._stored = settings
        self._plan = preparation.plan
        self._data = preparation
        self._processes = processes
        self._folder = folder
        self._log = log
        self._steps = OptimizerSteps(
            preparation,
            optimizer=optimizer,
            conditions=conditions,
            flow=flow,
            seed=run.seed,
            recompute_every=recompute_every,
            processes=processes,
        )
        self._validations = Validations(
            preparation,
            self._steps,
            validation=validation,
            selection=selection,
            processes=processes,
            folder=folder,
            log=log,
            sampler=sampler,
            extra_validation=extra_validation,
        )
        self._figures = StepFigures(folder.root)
        self._stopwatch = Stopwatch()
        self._memory = PeakMemory(processes.device)

    @property
    def best(self) -> AdapterWeights | None:
        """Best adapter so far; None before the first validation."""
        return self._validations.best

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what is logged of the loss beside its sum."""
        return self._steps.loss.names

    # -- the loop ------------------------------------------------------------------------------

    def loop(self) -> int | None:
        """Train up to the last step, until validation stops getting better, or a signal comes.

        Returns:
            The signal that ended it early, or None.
        """
        with StopRequest() as stop:
            self._stopwatch.restart()
            self._memory.begin()
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
                if len(self._figures):
                    self._log_training()
                why = self._validations.patience
                self._log.say(f"the run ends early, after step {self.step}: {why}")
                self.save()
            return stopped_by

    @property
    def _goes_on(self) -> bool:
        """Whether there is another step."""
        return self.step < self._plan.max_steps and not self._validations.patience.is_over

    def _is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last, happens now."""
        if self.step == 0:
            return False
        return self.step == self._plan.max_steps or bool(every and self.step % every == 0)

    def train_step(self, stop: StopRequest) -> int | None:
        """One optimizer step, without the validations and checkpoints between two of them.

        Returns:
            The signal that came to any of the processes, or None.
        """
        figures, stopped_by = self._steps.take(self.step, stop)
        self.step += 1
        self._figures.add(figures)
        return stopped_by

    def _log_training(self) -> None:
        """Log the means of the steps since the last line."""
        self._figures.read(step=self.step)
        seconds = self._stopwatch.restart()
        steps = len(self._figures)
        loss, norm, *figures = self._figures.take_means()
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": self._plan.epochs(self.step),
            "loss": loss,
            "grad_norm": norm,
            "lr": self._steps.learning_rate,
            "steps_per_second": steps / seconds,
            "examples_per_second": steps * self._plan.examples_per_step / seconds,
        }
        terms = self._steps.loss
        row |= terms.row(dict(zip(terms.names, figures, strict=True)))
        row |= self._memory.figures()
        self._log.train(
            row,
            max_steps=self._plan.max_steps,
            pauses=self._validations_left() * self._validations.seconds,
            may_end_early=self._validations.patience.may_end_early,
            shown=terms.shown,
        )

    def _validations_left(self) -> int:
        """Number of validations that are still to come."""
        every, last = self._val_every or self._plan.max_steps, self._plan.max_steps
        return -(-last // every) - self._validations.last_step // every

    def _measure_confusion_if_due(self) -> None:
        """Measure which predicates the model confuses now, once in so many steps."""
        ranking, validator = self._steps.loss.ranking, self._data.validator
        if ranking is None or validator is None or not ranking.is_due(self.step):
            return
        with self._stopwatch.paused():
            line = ranking.measure(
                self.step, validator, self._steps.objective, processes=self._processes
            )
        self._log.say(line)

    def _validate_if_due(self, stop: StopRequest) -> int | None:
        """Validate unless it was done after this step; returns the signal that cut it short."""
        validations = self._validations
        is_done = validations.last_step == self.step
        if is_done or not validations.are_wanted or not self._is_due(self._val_every):
            return None
        self._figures.read(step=self.step)
        with self._stopwatch.paused():
            measured = validations.measure(self.step, stop)
        if measured is None:
            return stop.signal
        validations.judge(self.step, measured)
        # Several processes agree at the end of a step, see OptimizerSteps.
        return stop.signal if self._processes.count == 1 else None

    # -- saving --------------------------------------------------------------------------------

    def state(self) -> TrainingState:
        """Everything that resuming needs, on the CPU where it is copied at all."""
        steps, validations, ranking = self._steps, self._validations, self._steps.loss.ranking
        position = self._plan.position(self.step)
        return TrainingState(
            step=self.step,
            epoch=position // self._plan.train_examples,
            position=position,
            trainable={name: weight.detach() for name, weight in steps.weights.items()},
            ema=None if steps.average is None else steps.average.values,
            optimizer=steps.optimizer_state(),
            rng=torch.get_rng_state(),
            config=dict(self._stored),
            adapter=self._data.adapter.to_json(),
            data=self._data.digests,
            content=self._data.content,
            processes=self._processes.count,
            passes=self._plan.passes,
            validated_step=validations.last_step,
            metrics=validations.metrics,
            best=validations.best,
            confusion=None if ranking is None else ranking.confusion.to_state(),
            patience=validations.patience.to_state(),
        )

    def save(self) -> None:
        """Write step{N}.pt."""
        self._figures.read(step=self.step)
        with self._stopwatch.paused():
            if self._processes.is_main:
                self.state().save(self._folder.step(self.step))
                self._folder.prune(keep=self._run.keep_checkpoints)
            self._processes.wait()

    def resume(self, state: TrainingState) -> None:
        """Go on where ``state`` was saved."""
        self._steps.load(state)
        torch.set_rng_state(state.rng)
        self.step = state.step
        ranking = self._steps.loss.ranking
        if state.confusion is not None and ranking is not None:
            ranking.confusion = ConfusionTable.from_state(state.confusion)
        self._validations.load(state)

    def finished(self) -> AdapterWeights:
        """The adapter after the last step, for ``final_graph_lora_{mode}.pt``."""
        return self._steps.adapter(self.step, self._validations.metrics)
