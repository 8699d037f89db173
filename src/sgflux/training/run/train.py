"""The training run, as named steps: read, encode, build, loop, finish."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgflux.bases.families import family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.data.buckets import Size
from sgflux.files.folder_lock import check_not_held
from sgflux.files.writing import make_folder, replace_file
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.initial import check_initial_base
from sgflux.training.checkpoints.run_folder import CONFIG_FILE, RunFolder
from sgflux.training.encoding.size import with_size
from sgflux.training.log.run_log import RunLog
from sgflux.training.log.trackers import check_trackers, start_trackers
from sgflux.training.planning.precheck import NOT_CHECKED, check_inputs
from sgflux.training.processes.determinism import deterministic_kernels
from sgflux.training.processes.launcher import (
    asks_for_shards,
    check_launcher,
    weights_in_every_process,
)
from sgflux.training.processes.lost import naming_lost_processes
from sgflux.training.processes.processes import Processes
from sgflux.training.run.data import encode_data, plan_data, read_data
from sgflux.training.run.finish import finish
from sgflux.training.run.origin import origin_of
from sgflux.training.run.outline import say_outline
from sgflux.training.run.prepare import prepare, start_run
from sgflux.training.run.sample_graphs import read_samples, sampler_of, watch
from sgflux.training.run_validations import ExtraValidation
from sgflux.training.samples.graphs import names_of
from sgflux.training.samples.observer import Observer
from sgflux.training.samples.sampler import remove_later
from sgflux.training.samples.texts import encode_samples


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a run.

    Attributes:
        output_dir: Folder of the run.
        step: Number of optimizer steps done.
        max_steps: Number of optimizer steps planned.
        best: Metrics of the best checkpoint and its step; None without validation.
        bundle: Folder of the finished adapter; None for a dry run or an interrupted one.
        interrupted_by: Signal that stopped the run; None if none did.
    """

    output_dir: Path
    step: int
    max_steps: int
    best: Mapping[str, Any] | None = None
    bundle: Path | None = None
    interrupted_by: int | None = None

    @property
    def exit_status(self) -> int:
        """Exit status for the shell: 0, or 130 (SIGINT), or 143 (SIGTERM)."""
        return 0 if self.interrupted_by is None else 128 + self.interrupted_by


def train(
    config: TrainConfig,
    *,
    validate: ExtraValidation | None = None,
    observe: Callable[[], Observer] | None = None,
) -> TrainResult:
    """Train a scene-graph adapter, or go on with it.

    Args:
        config: Configuration of the run.
        validate: Called after every validation, in the main process, with the model (averaged
            weights) and the step; the figures that it returns go to metrics.jsonl beside the rest
            and do not choose the best checkpoint. Where processes share the base it is called in
            all of them.
        observe: Function that makes the judge of the sample graphs' pictures, called in the main
            process; needed if the configuration names a judge.

    Returns:
        The result; also when SIGINT or SIGTERM asked for an early end, in which case
        everything is saved that is needed to resume.

    Raises:
        SgfluxError: on bad input, a folder in use, a checkpoint of another run, or a loss or
            gradient that is not finite; the message names the way out.
        LostProcessError: if another process of the run is gone.
    """
    check_trackers(config.run.trackers)
    check_launcher(
        dtype=config.compute.dtype,
        compiles=config.blocks.compile,
        accumulation=config.optimizer.gradient_accumulation_steps,
        recomputes=config.blocks.recompute_every > 0,
        shares_base=True,
    )
    if asks_for_shards():
        config = config.changed(shard_base=True)
    with (
        deterministic_kernels(config.blocks.deterministic),  # before the first use of a GPU
        weights_in_every_process(),
        naming_lost_processes(config.run.output_dir),
    ):
        return _train(config, validate=validate, observe=observe)


def train_by_settings(**settings: Any) -> TrainResult:
    """As :func:`train`, with the settings of a run by name, as a settings file has them.

    Raises:
        SgfluxError: as :func:`train`, and on an unknown or bad setting.
    """
    return train(TrainConfig.from_flat(**settings))


def _train(
    config: TrainConfig,
    *,
    validate: ExtraValidation | None,
    observe: Callable[[], Observer] | None,
) -> TrainResult:
    """Train with the kernels that are chosen by now."""
    processes = Processes.start(config.compute.device)
    log = RunLog(silent=not processes.is_main)
    held = ExitStack()
    try:
        if config.run.dry_run:
            check_not_held(config.run.output_dir)
        else:
            held.enter_context(
                processes.hold(config.run.output_dir, command="sgflux train", say=log.say)
            )
        identity = planned = None
        config, resumed, initial = origin_of(config, say=log.say)
        folder = RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode)
        splits = read_data(config, say=log.say)
        names = splits.names(config.encoder.kind)
        splits, graphs = read_samples(config, splits, say=log.say)
        with processes.main_first():
            sized = with_size(config.pictures, config.model, say=log.say)
        config = replace(config, pictures=sized)
        passes = config.optimizer.gradient_accumulation_steps * processes.count
        if resumed is not None:
            identity = _identify(config, processes=processes)
            planned = plan_data(config, splits, processes=processes)
            config = resumed.crop_of(config, planned)
            for line in resumed.compare(config, splits, planned, identity, processes=processes):
                log.say(line)
            passes = resumed.state.passes_of_step
        if initial is not None:
            identity = _identify(config, processes=processes)
            allow_other = config.start.allow_other_base
            for line in check_initial_base(initial, identity, allow_other=allow_other):
                log.say(line)
        checked = check_inputs(
            splits,
            names,
            data=config.data,
            model=config.model,
            pictures=config.pictures,
            max_sequence_length=config.conditions.max_sequence_length,
            processes=processes,
            memory=config.memory,
            sample_names=names_of(graphs, config.encoder),
            sample_file=config.samples.sample_graphs,
        )
        watched = None
        if graphs:
            watched, lines = watch(config, graphs, observe, processes=processes)
            checked += lines
        sizes: Sequence[Size] = ()
        if config.data.aspect_buckets:
            planned = planned or plan_data(config, splits, processes=processes)
            sizes = planned.sizes
        if config.run.dry_run:
            log.say(json.dumps(config.to_json(), indent=2))
        else:
            processes.wait()  # nobody makes the folder before everybody has found it usable
        plan = say_outline(
            config, splits, passes=passes, processes=processes, say=log.say, sizes=sizes
        )
        if resumed is not None:
            resumed.check_length(plan.max_steps)
        if resumed is not None and config.run.dry_run:
            log.say(f"resume:     after step {resumed.state.step}")
        for line in checked:
            log.say(f"checked:    {line}")
        if config.run.dry_run:
            log.say(NOT_CHECKED)
            log.say("dry run: nothing was written")
            return TrainResult(
                output_dir=config.run.output_dir,
                step=0 if resumed is None else resumed.state.step,
                max_steps=plan.max_steps,
            )

        make_folder(folder.root)
        if processes.is_main:
            log.track(_trackers(config))  # one that needs a login says so before the encoding
        planned = planned or plan_data(config, splits, processes=processes)
        encoded = encode_data(config, splits, planned, processes=processes, say=log.say)
        texts = None
        if watched is not None:
            texts = encode_samples(
                graphs,
                names_of(graphs, config.encoder),
                planned.encoders,
                known=encoded.names,
                processes=processes,
            )
        planned = None  # the encoders need not be kept
        if identity is None:
            identity = _identify(config, processes=processes)
        prepared = prepare(
            config,
            splits,
            encoded,
            passes=passes,
            processes=processes,
            base_identity=identity,
            initial=initial,
            say=log.say,
        )
        if resumed is not None:
            resumed.check_transformer(prepared.adapter, allow_other=config.start.allow_other_base)
        sampler = None
        if watched is not None and texts is not None:
            sampler = sampler_of(config, prepared, watched, texts, processes=processes)
        run = start_run(
            config,
            prepared,
            processes=processes,
            log=log,
            sampler=sampler,
            extra_validation=validate,
        )
        if resumed is not None:
            resumed.restore(run)
        if processes.is_main:
            remove_later(folder.root, step=run.step)
            text = json.dumps(config.to_json(), indent=2) + "\n"
            replace_file(folder.root / CONFIG_FILE, text)
        log.open(
            config.run.output_dir,
            step=run.step,
            max_steps=prepared.plan.max_steps,
            board="tensorboard" in config.run.trackers,
        )
        if resumed is not None:
            log.say(f"resumed from {resumed.path}, after step {resumed.state.step}")
        interrupted_by = run.loop()
        if interrupted_by is None:
            bundle = finish(
                config, splits, prepared, run, folder=folder, processes=processes, say=log.say
            )
        else:
            bundle = None
            log.say(
                f"stopped by {signal.Signals(interrupted_by).name} after step {run.step}; "
                f"everything is saved in {folder.step(run.step)}. To go on, run the same command "
                "with --resume auto"
            )
        return TrainResult(
            output_dir=config.run.output_dir,
            step=run.step,
            max_steps=prepared.plan.max_steps,
            best=None if run.best is None else {"step": run.best.step, **run.best.metrics},
            bundle=bundle,
            interrupted_by=interrupted_by,
        )
    finally:
        log.close()
        held.close()


def _trackers(config: TrainConfig) -> list[Any]:
    """The trackers of a run beside TensorBoard, started."""
    return start_trackers(
        config.run.trackers,
        project=config.run.tracker_project,
        run=config.run.output_dir.resolve().name,
        settings=config.to_json(),
    )


def _identify(config: TrainConfig, *, processes: Processes) -> BaseIdentity:
    """Return the identity of the base; the main process reads its weights before the others."""
    with processes.main_first():
        return family_of(config.model).identity(config.model)
