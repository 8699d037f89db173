"""A run in outline, before any model is loaded: its numbers, and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.bases.families import family_of
from sgflux.data.buckets import Size, bucket_lines
from sgflux.models.training_adapter import check_training_adapter_file
from sgflux.settings.training import TrainConfig
from sgflux.training.build import adapted_model, plan_of
from sgflux.training.encoding.encode import check_size, image_tokens_of
from sgflux.training.encoding.graph_encoder import pretrained_encoder
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.planning.outline import cost_lines
from sgflux.training.planning.plan import RunPlan
from sgflux.training.planning.precheck import check_room
from sgflux.training.processes.processes import Processes
from sgflux.training.run.prepare import guidance_of


def outline(
    config: TrainConfig,
    splits: Splits,
    *,
    passes: int,
    processes: Processes,
    sizes: Sequence[Size],
) -> tuple[RunPlan, list[str]]:
    """Work out a run from the descriptions of its model, before the model is loaded.

    Args:
        config: Configuration of the run.
        splits: Data of the run.
        passes: Number of forward passes of a step, over all processes.
        processes: Processes that share the work.
        sizes: Size of each training picture, with aspect buckets; else empty.

    Returns:
        The numbers of the run, and what it will cost, a line each.

    Raises:
        SgfluxError: if a description is not on this machine, or a setting does not fit it.
    """
    length = config.conditions.max_sequence_length
    base = family_of(config.model).outline(config.model, max_sequence_length=length)
    size, patch = config.pictures.size, base.patch
    check_size(size, patch=patch, model=config.model.name)
    if splits.training_adapter is not None:
        check_training_adapter_file(base.transformer, splits.training_adapter)
    model = adapted_model(
        base.transformer,
        pretrained_encoder(config.encoder),
        adapter=config.adapter,
        encoder=config.encoder,
        predicts_layout=bool(config.losses.layout.lambda_layout),
        text_tokens=base.text_tokens,
    )
    guidance_of(config, model)
    plan = plan_of(
        config.optimizer,
        splits,
        model,
        passes=passes,
        image_tokens=image_tokens_of(sizes or [size], patch=patch),
        sizes=sizes,
    )
    costs = cost_lines(
        base,
        plan,
        optimizer=config.optimizer,
        memory=config.memory,
        dtype=config.compute.dtype,
        recompute_every=config.blocks.recompute_every,
        adapter=model.config,
        training_adapter=splits.training_adapter,
        teacher_passes=sum(need.teacher_passes for need in splits.needs),
        device=processes.device,
        sharers=processes.sharers() if config.processes.shard_base else 1,
        decodes=config.samples.sample_graphs is not None,
    )
    return plan, costs


def say_outline(
    config: TrainConfig,
    splits: Splits,
    *,
    passes: int,
    processes: Processes,
    say: Say,
    sizes: Sequence[Size],
) -> RunPlan:
    """Say what the run is and what it will cost, before any model is loaded.

    Args:
        config: Configuration of the run.
        splits: Data of the run.
        passes: Number of forward passes of a step, over all processes.
        processes: Processes that share the work.
        say: Function that shows a line to the user.
        sizes: Size of each training picture, with aspect buckets; else empty.

    Returns:
        The numbers of the run.

    Raises:
        SgfluxError: as :func:`outline`, or if the disk has no room for what the run writes.
    """
    plan, costs = outline(config, splits, passes=passes, processes=processes, sizes=sizes)
    where = f"{processes.device}, {config.compute.dtype}"
    if processes.count > 1:
        where += f", {processes.count} processes"
    if config.processes.shard_base:
        where += ", which share the base"
    given = "--cgip-ckpt given" if config.encoder.cgip_ckpt else "no --cgip-ckpt given"
    why = "as asked for" if config.encoder.graph_encoder else given
    say(f"model:      {config.model.name} on {where}")
    say(f"graph:      {config.adapter.graph_mode} mode, {config.encoder.kind} encoder ({why})")
    for line in plan.lines():
        say(line)
    for line in bucket_lines(sizes, batch_size=config.optimizer.batch_size):
        say(f"bucket:     {line}")
    for line in costs:
        say(line)
    check_room(
        config.run,
        plan,
        averages=config.optimizer.ema_decay > 0,
        validates=config.data.val_jsonl is not None or config.selection == "obeyed",
        say=say,
    )
    return plan
