"""The stages of a training run: each hands on the groups of the configuration that are read."""

from __future__ import annotations

from collections.abc import Sequence

from sgflux.bases.devices import DTYPES
from sgflux.bases.families import family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.data.buckets import Size
from sgflux.models.adapter import GraphLoraModel
from sgflux.settings.training import TrainConfig
from sgflux.training.build import (
    Preparation,
    adapted_model,
    guidance_of,
    parts_of_terms,
    place,
    plan_of,
    sigma_shift_of,
    validator_of,
)
from sgflux.training.checkpoints.initial import InitialAdapter
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.encoding.encode import (
    Encoded,
    PlannedEncoding,
    check_size,
    encode,
    image_tokens_of,
    plan_encoding,
)
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.splits import (
    Say,
    Splits,
    check_selection,
    read_splits,
    with_terms,
    with_training_adapter,
)
from sgflux.training.log.run_log import RunLog
from sgflux.training.loop import ExtraValidation, TrainingRun
from sgflux.training.planning.outline import adapted, cost_lines
from sgflux.training.planning.plan import RunPlan
from sgflux.training.processes.processes import Processes


def read_data(config: TrainConfig, *, say: Say) -> Splits:
    """Read both files, and make the terms of the loss and what else depends on the data.

    Raises:
        SgfluxError: on a bad file, or if a setting does not fit the data.
    """
    seed, jsonl = config.run.seed, config.data.val_jsonl
    splits = read_splits(
        config.data,
        encoder=config.encoder,
        val_examples=config.validation.val_examples,
        seed=seed,
        say=say,
    )
    check_selection(splits, config.selection, jsonl=jsonl)
    vocabulary = config.data.vocabulary
    splits = with_terms(splits, config.losses, seed=seed, vocabulary=vocabulary, say=say)
    allow_download = config.model.allow_download
    return with_training_adapter(
        splits, config.start.training_adapter, allow_download=allow_download
    )


def plan_data(config: TrainConfig, splits: Splits, *, processes: Processes) -> PlannedEncoding:
    """Look at all pictures of the run.

    Raises:
        SgfluxError: as :func:`sgflux.training.encoding.encode.plan_encoding`.
    """
    encoders = LazyEncoders(
        config.model,
        device=processes.device,
        encoder_device=config.memory.encoder_device,
        dtype=config.compute.dtype,
        max_sequence_length=config.conditions.max_sequence_length,
    )
    return plan_encoding(
        splits,
        encoders,
        data=config.data,
        pictures=config.pictures,
        texts=config.conditions.texts,
    )


def encode_data(
    config: TrainConfig,
    splits: Splits,
    planned: PlannedEncoding,
    *,
    processes: Processes,
    say: Say,
) -> Encoded:
    """Encode everything once, or find it in the cache.

    Raises:
        SgfluxError: as :func:`sgflux.training.encoding.encode.encode`.
    """
    return encode(
        planned,
        names=splits.names(config.encoder.kind),
        concepts=any(need.concepts is not None for need in splits.needs),
        latent_cache_dir=config.data.latent_cache_dir,
        processes=processes,
        say=say,
    )


def prepare(
    config: TrainConfig,
    splits: Splits,
    encoded: Encoded,
    *,
    processes: Processes,
    base_identity: BaseIdentity | None = None,
    initial: InitialAdapter | None = None,
    say: Say,
) -> Preparation:
    """Load the model, and make everything else that the loop needs.

    Raises:
        SgfluxError: if the model cannot be loaded, or a setting does not fit it.
    """
    device, seed, dtype = processes.device, config.run.seed, DTYPES[config.compute.dtype]
    model = adapted_model(
        encoded,
        model=config.model,
        adapter=config.adapter,
        encoder=config.encoder,
        dtype=dtype,
        comes_small=config.memory.comes_small,
        seed=seed,
        device=device,
        base_identity=base_identity,
        initial=initial,
        say=say,
    )
    sizes = encoded.train.sizes
    plan = plan_of(
        config.optimizer,
        splits,
        model,
        processes=processes,
        image_tokens=encoded.image_tokens,
        sizes=sizes,
    )
    training_adapter = place(
        model,
        config.memory,
        compiles=config.blocks.compile,
        training_adapter=splits.training_adapter,
        device=device,
    )
    validator = validator_of(
        encoded,
        splits.items,
        val_sigmas=config.validation.val_sigmas,
        flow=config.flow,
        prompt_kind=config.conditions.texts.heaviest,
        batch_size=config.optimizer.batch_size,
        seed=seed,
    )
    parts = parts_of_terms(
        splits,
        encoded,
        model.config,
        data=config.data,
        pictures=config.pictures,
        model=config.model,
        seed=seed,
        device=device,
    )

    def sigma_shift(image_tokens: int) -> float:
        return sigma_shift_of(config.flow, config.model, image_tokens=image_tokens)

    return Preparation(
        model=model,
        adapter=model.config,
        train=encoded.train,
        validator=validator,
        latent_scale=encoded.latent_scale,
        dtype=dtype,
        guidance=_guidance(config, model),
        digests=splits.digests,
        content=encoded.content,
        seen=encoded.seen,
        plan=plan,
        terms=splits.terms,
        parts=parts,
        sigma_shift=sigma_shift(encoded.image_tokens),
        training_adapter=training_adapter,
        sigma_shifts={
            size: sigma_shift(image_tokens_of([size], patch=encoded.patch))
            for size in sorted(set(sizes))
        },
    )


def start_run(
    config: TrainConfig,
    prepared: Preparation,
    *,
    processes: Processes,
    log: RunLog,
    extra_validation: ExtraValidation | None = None,
) -> TrainingRun:
    """The run before its first step."""
    return TrainingRun(
        prepared,
        optimizer=config.optimizer,
        conditions=config.conditions,
        flow=config.flow,
        run=config.run,
        val_every=config.validation.val_every,
        selection=config.selection,
        recompute_every=config.blocks.recompute_every,
        settings=config.to_json(),
        processes=processes,
        folder=RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode),
        log=log,
        extra_validation=extra_validation,
    )


def outline(
    config: TrainConfig, splits: Splits, *, processes: Processes, sizes: Sequence[Size]
) -> tuple[RunPlan, list[str]]:
    """Work out a run from the descriptions of its model, before the model is loaded.

    Args:
        config: Configuration of the run.
        splits: Data of the run.
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
    model = adapted(
        base,
        adapter=config.adapter,
        encoder=config.encoder,
        training_adapter=splits.training_adapter,
    )
    _guidance(config, model)
    plan = plan_of(
        config.optimizer,
        splits,
        model,
        processes=processes,
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
        lora_modules=model.config.lora_modules,
        training_adapter=splits.training_adapter,
        teaches=any(need.teacher for need in splits.needs),
        device=processes.device,
    )
    return plan, costs


def _guidance(config: TrainConfig, model: GraphLoraModel) -> float | None:
    is_distilled = model.flux.network.is_guided
    return guidance_of(config.flow.guidance, is_distilled=is_distilled, model=config.model.name)
