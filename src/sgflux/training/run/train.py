"""The training run, as named steps: read, encode, build, loop, finish."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgflux.bases.families import expect_family, family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.name import BaseName
from sgflux.data.buckets import Size, bucket_lines
from sgflux.data.seen_rows import SEEN_FILE, seen_bytes
from sgflux.errors import SgfluxError, first_line
from sgflux.files.folder_lock import check_not_held
from sgflux.files.writing import make_folder, replace_file
from sgflux.models.bundle import save_bundle
from sgflux.settings.training import TrainConfig
from sgflux.training.build import Preparation
from sgflux.training.checkpoints.checkpoint import CheckpointError, TrainingState
from sgflux.training.checkpoints.initial import (
    adopted,
    as_started,
    check_initial_base,
    read_initial,
    sizes_of,
)
from sgflux.training.checkpoints.resuming import (
    check_length,
    check_resumable,
    check_same_transformer,
)
from sgflux.training.checkpoints.run_folder import CONFIG_FILE, RunFolder
from sgflux.training.encoding.size import with_size
from sgflux.training.encoding.splits import Splits
from sgflux.training.log.run_log import RunLog
from sgflux.training.log.trackers import check_trackers, start_trackers
from sgflux.training.loop import TrainingRun
from sgflux.training.planning.plan import RunPlan
from sgflux.training.planning.precheck import NOT_CHECKED, check_inputs, check_room
from sgflux.training.processes.determinism import deterministic_kernels
from sgflux.training.processes.launcher import (
    asks_for_shards,
    check_launcher,
    weights_in_every_process,
)
from sgflux.training.processes.lost import naming_lost_processes
from sgflux.training.processes.processes import Processes
from sgflux.training.run.card_sample import draw_sample
from sgflux.training.run.model_card import model_card
from sgflux.training.run.stages import (
    encode_data,
    outline,
    plan_data,
    prepare,
    read_data,
    read_samples,
    sampler_of,
    start_run,
)
from sgflux.training.samples.graphs import SampleGraph, names_of
from sgflux.training.samples.observer import Observer
from sgflux.training.samples.sampler import Watched, admit, remove_later, sheet_of
from sgflux.training.samples.texts import encode_samples
from sgflux.training.validating import ExtraValidation

SAMPLES_SHEET = "sample_graphs.png"
"""The sample graphs' pictures in a bundle."""


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
        state = identity = planned = initial = None
        # Which folder is used does not depend on what the adapter is.
        folder = RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode)
        resume_path = folder.resume_path(config.start.resume)
        if resume_path is not None:
            state = TrainingState.load(resume_path)
            family, base = family_of(config.model), state.adapter.get("base")
            expect_family(base, family, what=f"{resume_path}: the run")
            if config.start.init_from is not None:
                config = config.changed(**as_started(state, _sizes(config)))
        elif config.start.init_from is not None:
            initial = read_initial(config.start.init_from, model=config.model)
            changes, lines = adopted(initial, _sizes(config), kind=config.encoder.kind)
            config = config.changed(**changes)
            for line in lines:
                log.say(line)
        folder = RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode)
        splits = read_data(config, say=log.say)
        names = splits.names(config.encoder.kind)
        splits, graphs = read_samples(config, splits, say=log.say)
        with processes.main_first():
            sized = with_size(config.pictures, config.model, say=log.say)
        config = replace(config, pictures=sized)
        if state is not None and resume_path is not None:
            identity = _identify(config, processes=processes)
            planned = plan_data(config, splits, processes=processes)
            was: Any = state.config.get("crop")
            if config.pictures.crop == "auto" and was != "auto" and planned.is_shown_as(was):
                # What older versions had as their default; the pictures are the same.
                config = config.changed(crop=was)
            for line in check_resumable(
                state,
                path=resume_path,
                settings=config.to_json(),
                data=splits.digests,
                content=planned.content,
                base=identity,
                allow_other_base=config.start.allow_other_base,
                processes=processes.count,
            ):
                log.say(line)
        passes = config.optimizer.gradient_accumulation_steps * processes.count
        if state is not None:
            passes = state.passes_of_step
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
            quantize=config.memory.quantize,
            sample_names=names_of(graphs, config.encoder),
            sample_file=config.samples.sample_graphs,
        )
        watched = None
        if graphs:
            watched, lines = _watched(config, graphs, observe, processes=processes)
            checked += lines
        sizes: Sequence[Size] = ()
        if config.data.aspect_buckets:
            planned = planned or plan_data(config, splits, processes=processes)
            sizes = planned.sizes
        if config.run.dry_run:
            return _dry_run(
                config,
                splits,
                state,
                checked,
                passes=passes,
                processes=processes,
                log=log,
                sizes=sizes,
            )

        processes.wait()  # nobody makes the folder before everybody has found it usable
        plan = _say_outline(
            config, splits, passes=passes, processes=processes, log=log, sizes=sizes
        )
        if state is not None and resume_path is not None:
            check_length(state, path=resume_path, max_steps=plan.max_steps)
        for line in checked:
            log.say(f"checked:    {line}")
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
        if state is not None and resume_path is not None:
            check_same_transformer(
                state,
                prepared.adapter,
                path=resume_path,
                allow_other=config.start.allow_other_base,
            )
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
        if state is not None:
            _resume(run, state, path=resume_path)
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
        if state is not None:
            log.say(f"resumed from {resume_path}, after step {state.step}")
        interrupted_by = run.loop()
        if interrupted_by is None:
            bundle = _finish(
                config, splits, prepared, run, folder=folder, processes=processes, log=log
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


def _resume(run: TrainingRun, state: TrainingState, *, path: Path | None) -> None:
    """Go on from a state, whose inner parts an older checkpoint has no checksum for."""
    try:
        run.resume(state)
    except SgfluxError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error


def _watched(
    config: TrainConfig,
    graphs: Sequence[SampleGraph],
    observe: Callable[[], Observer] | None,
    *,
    processes: Processes,
) -> tuple[Watched, list[str]]:
    """The graphs with their judge, and what the main process found out about both, a line each."""
    watched = Watched(graphs)
    lines: list[str] = []
    problems: list[str] = []
    if processes.is_main:
        try:
            if config.judge is None:
                watched, lines = admit(graphs, None, size=config.pictures.size)
            elif observe is None:
                raise SgfluxError(
                    f"judge {config.judge!r} was asked for, and the run was given none: train with "
                    "sgflux train, or give train() the argument observe"
                )
            else:
                watched, lines = admit(graphs, observe(), size=config.pictures.size)
        except SgfluxError as error:
            problems.append(str(error))
    problems = processes.gather(problems)
    if problems:
        raise SgfluxError(problems[0])
    return watched, lines


def _trackers(config: TrainConfig) -> list[Any]:
    """The trackers of a run beside TensorBoard, started."""
    return start_trackers(
        config.run.trackers,
        project=config.run.tracker_project,
        run=config.run.output_dir.resolve().name,
        settings=config.to_json(),
    )


def _sizes(config: TrainConfig) -> dict[str, Any]:
    return sizes_of(config.adapter, config.encoder, config.conditions)


def _identify(config: TrainConfig, *, processes: Processes) -> BaseIdentity:
    """What the base is; the main process reads its weights, and the others hear of it."""
    with processes.main_first():
        return family_of(config.model).identity(config.model)


def _say_outline(
    config: TrainConfig,
    splits: Splits,
    *,
    passes: int,
    processes: Processes,
    log: RunLog,
    sizes: Sequence[Size],
) -> RunPlan:
    """Say what the run is and what it will cost, before any model is loaded."""
    plan, costs = outline(config, splits, passes=passes, processes=processes, sizes=sizes)
    where = f"{processes.device}, {config.compute.dtype}"
    if processes.count > 1:
        where += f", {processes.count} processes"
    if config.processes.shard_base:
        where += ", which share the base"
    given = "--cgip-ckpt given" if config.encoder.cgip_ckpt else "no --cgip-ckpt given"
    why = "as asked for" if config.encoder.graph_encoder else given
    log.say(f"model:      {config.model.name} on {where}")
    log.say(f"graph:      {config.adapter.graph_mode} mode, {config.encoder.kind} encoder ({why})")
    for line in plan.lines():
        log.say(line)
    for line in bucket_lines(sizes, batch_size=config.optimizer.batch_size):
        log.say(f"bucket:     {line}")
    for line in costs:
        log.say(line)
    check_room(
        config.run,
        plan,
        averages=config.optimizer.ema_decay > 0,
        validates=config.data.val_jsonl is not None or config.selection == "obeyed",
        say=log.say,
    )
    return plan


def _dry_run(
    config: TrainConfig,
    splits: Splits,
    state: TrainingState | None,
    checked: Sequence[str],
    *,
    passes: int,
    processes: Processes,
    log: RunLog,
    sizes: Sequence[Size],
) -> TrainResult:
    """Say what would happen; write nothing."""
    log.say(json.dumps(config.to_json(), indent=2))
    plan = _say_outline(config, splits, passes=passes, processes=processes, log=log, sizes=sizes)
    step = 0 if state is None else state.step
    if state is not None:
        check_length(state, path=config.run.output_dir, max_steps=plan.max_steps)
        log.say(f"resume:     after step {step}")
    for line in checked:
        log.say(f"checked:    {line}")
    log.say(NOT_CHECKED)
    log.say("dry run: nothing was written")
    return TrainResult(output_dir=config.run.output_dir, step=step, max_steps=plan.max_steps)


def _finish(
    config: TrainConfig,
    splits: Splits,
    prepared: Preparation,
    run: TrainingRun,
    *,
    folder: RunFolder,
    processes: Processes,
    log: RunLog,
) -> Path:
    """Write the last weights, and the best ones as the bundle to be used."""
    last = run.finished()
    chosen = last if run.best is None else run.best
    sample = None
    if processes.is_main:
        last.save(folder.last)
    # Processes that share the base must draw together.
    if config.run.sample_steps and (processes.is_main or config.processes.shard_base):
        log.say(f"drawing the model card's sample in {config.run.sample_steps} steps")
        sample = draw_sample(
            splits,
            prepared,
            chosen.weights,
            source=config.model,
            memory=config.memory,
            size=config.pictures.size,
            steps=config.run.sample_steps,
            seed=config.run.seed,
        )
    if processes.is_main:
        pictures = {} if sample is None else dict(sample.pictures)
        sheet = folder.root / sheet_of(chosen.step)
        if config.samples.sample_graphs is not None and sheet.is_file():
            pictures[SAMPLES_SHEET] = sheet.read_bytes()
        card = model_card(
            config,
            prepared.plan,
            prepared.adapter,
            chosen,
            sample,
            sheet=SAMPLES_SHEET if SAMPLES_SHEET in pictures else None,
            notes=[need.remark for need in splits.needs if need.remark],
        )
        save_bundle(
            folder.bundle,
            config=prepared.adapter,
            state={**chosen.weights, **prepared.model.frozen_parameters()},
            card=card,
            metrics={"step": chosen.step, **chosen.metrics},
            pictures=pictures,
            base=BaseName.of(config.model.name, config.model.revision),
            files={SEEN_FILE: seen_bytes(prepared.seen)},
        )
    processes.wait()
    log.say(f"finished: the adapter of step {chosen.step} is in {folder.bundle}")
    return folder.bundle
