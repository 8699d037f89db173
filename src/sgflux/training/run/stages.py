"""The stages of a training run: each hands on the groups of the configuration that are read."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch

from sgflux.bases.devices import DTYPES
from sgflux.bases.families import family_of
from sgflux.bases.guidance import guidance_told
from sgflux.bases.identity import BaseIdentity
from sgflux.data.buckets import Size
from sgflux.data.layouts import shown_layouts
from sgflux.errors import SgfluxError
from sgflux.flow_matching import sigma_grid
from sgflux.graphs.predicates import vocabulary_of
from sgflux.models.adapter import AdapterConfig, GraphLoraModel
from sgflux.models.training_adapter import check_training_adapter_file
from sgflux.settings.graph_encoder import BOX_SETTINGS
from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import BoxReading
from sgflux.training.build import (
    DEFAULT_GUIDANCE,
    Preparation,
    adapted_model,
    place,
    plan_of,
    sampling_sigmas_of,
    sigma_shift_of,
)
from sgflux.training.checkpoints.initial import InitialAdapter, load_initial
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.encoding.encode import (
    Encoded,
    PlannedEncoding,
    check_size,
    encode,
    image_tokens_of,
    plan_encoding,
)
from sgflux.training.encoding.graph_encoder import pretrained_encoder
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
from sgflux.training.loop import TrainingRun
from sgflux.training.planning.outline import cost_lines
from sgflux.training.planning.plan import RunPlan
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import derived_seed
from sgflux.training.samples.graphs import SampleGraph, read_sample_graphs
from sgflux.training.samples.sampler import Sampler, Watched, trained_pipeline
from sgflux.training.samples.texts import EncodedTexts
from sgflux.training.terms.regions import relation_regions
from sgflux.training.terms.term import Parts
from sgflux.training.validating import ExtraValidation
from sgflux.training.validation import Validator


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
    splits = with_terms(
        splits,
        config.losses,
        seed=seed,
        vocabulary=vocabulary,
        say=say,
        flow_scale=config.flow.flow_scale,
    )
    allow_download = config.model.allow_download
    return with_training_adapter(
        splits, config.start.training_adapter, allow_download=allow_download
    )


def read_samples(
    config: TrainConfig, splits: Splits, *, say: Say
) -> tuple[Splits, list[SampleGraph]]:
    """Read the sample graphs; none, if there is no file of them.

    Returns:
        The data of the run, with the digest of the file if the adapter is chosen by it; the graphs.

    Raises:
        SgfluxError: naming the file and the line of the first graph that cannot be drawn.
    """
    path = config.samples.sample_graphs
    if path is None:
        return splits, []
    graphs = read_sample_graphs(
        path,
        examples=splits.train,
        known=vocabulary_of(config.data.vocabulary),
        encoder=config.encoder,
        say=say,
    )
    if config.selection == "obeyed":
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        splits = replace(splits, digests={**splits.digests, "file of sample graphs": digest})
    return splits, graphs


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
    passes: int,
    processes: Processes,
    base_identity: BaseIdentity | None = None,
    initial: InitialAdapter | None = None,
    say: Say,
) -> Preparation:
    """Load the model, and make everything else that the loop needs.

    Args:
        config: Configuration of the run.
        splits: Data of the run.
        encoded: Data of the run, encoded.
        passes: Number of forward passes of a step, over all processes.
        processes: Processes that share the work.
        base_identity: Identity of the base; None: the adapter will record none.
        initial: Weights from which the adapter starts; None: it starts untrained.
        say: Function that shows a line to the user.

    Raises:
        SgfluxError: if the model cannot be loaded, or a setting does not fit it.
    """
    device, dtype = processes.device, DTYPES[config.compute.dtype]
    model = _adapted(
        config,
        encoded,
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
        passes=passes,
        image_tokens=encoded.image_tokens,
        sizes=sizes,
    )
    training_adapter = place(
        model,
        config.memory,
        compiles=config.blocks.compile,
        training_adapter=splits.training_adapter,
        processes=processes,
        shares_base=config.processes.shard_base,
    )

    def sigma_shift(image_tokens: int) -> float:
        return sigma_shift_of(config.flow, config.model, image_tokens=image_tokens)

    parts = _parts(config, splits, encoded, model.config, device=device)
    return Preparation(
        model=model,
        adapter=model.config,
        train=encoded.train,
        validator=_validator(config, splits, encoded),
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
        boxes=_box_reading(config, parts) if config.encoder.takes_layouts else None,
    )


def _adapted(
    config: TrainConfig,
    encoded: Encoded,
    *,
    device: torch.device,
    base_identity: BaseIdentity | None,
    initial: InitialAdapter | None,
    say: Say,
) -> GraphLoraModel:
    """Load the transformer and put the adapter into it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the encoders had, for the transformer
    # One that is to be shared may not fit the device as a whole either.
    comes_small = config.memory.comes_small or config.processes.shard_base
    transformer = family_of(config.model).load_transformer(
        config.model,
        dtype=DTYPES[config.compute.dtype],
        device="cpu" if comes_small else device,
    )
    pretrained = pretrained_encoder(config.encoder)
    # The adapter's first weights are drawn from torch's global generator.
    torch.manual_seed(derived_seed(config.run.seed, "weights"))
    built = adapted_model(
        transformer,
        pretrained,
        adapter=config.adapter,
        encoder=config.encoder,
        predicts_layout=bool(config.losses.layout.lambda_layout),
        text_tokens=encoded.text_tokens,
        names=encoded.names,
        base_identity=base_identity,
    )
    if initial is not None:
        for line in load_initial(built, initial):
            say(line)
    return built


def _validator(config: TrainConfig, splits: Splits, encoded: Encoded) -> Validator | None:
    """What validates the run; None without a validation set."""
    if encoded.val is None:
        return None
    return Validator(
        encoded.val,
        splits.items,
        sigmas=sigma_grid(
            config.validation.val_sigmas, t_min=config.flow.t_min, t_max=config.flow.t_max
        ),
        latent_scale=encoded.latent_scale,
        prompt_kind=config.conditions.texts.heaviest,
        seed=config.run.seed,
        batch_size=config.optimizer.batch_size,
    )


def _box_reading(config: TrainConfig, parts: Parts) -> BoxReading:
    """The boxes that the graph encoder reads.

    Raises:
        SgfluxError: if no training example has any.
    """
    if all(example.boxes is None for example in parts.examples):
        raise SgfluxError(
            f"{config.data.train_jsonl}: {', '.join(BOX_SETTINGS)} need boxes, and no row has any; "
            "give rows with 'boxes', or drop these settings"
        )
    encoder = config.encoder
    return BoxReading(parts.layouts(), dropout=encoder.boxes_dropout, jitter=encoder.boxes_jitter)


def _parts(
    config: TrainConfig,
    splits: Splits,
    encoded: Encoded,
    adapter: AdapterConfig,
    *,
    device: torch.device,
) -> Parts:
    """What the terms of the loss are made of."""
    identity = adapter.base_identity
    shown: dict[str, Any] = {
        "images_dir": config.data.images_root(config.data.train_jsonl),
        "sizes": encoded.train.sizes or [config.pictures.size] * len(splits.train),
        "crop": config.pictures.crop,
    }
    return Parts(
        examples=splits.train,
        names=encoded.names,
        captions=encoded.train.words,
        concept_text=encoded.concept_text,
        regions=lambda: relation_regions(splits.train, patch=encoded.patch, **shown),
        layouts=cache(lambda: shown_layouts(splits.train, **shown)),
        sampling_sigmas=cache(
            lambda image_tokens: sampling_sigmas_of(config.model, image_tokens=image_tokens)
        ),
        image_tokens=encoded.image_tokens,
        num_layers=adapter.base["num_layers"],
        reads={
            "latent": [encoded.autoencoder_identity],
            # Older cards have the fingerprint of two layers, and not the digest of all weights.
            "saliency": [
                adapter.base["fingerprint"],
                *([] if identity is None else [identity.parts["transformer"]]),
            ],
        },
        model_id=config.model.name,
        seed=config.run.seed,
        device=device,
    )


def start_run(
    config: TrainConfig,
    prepared: Preparation,
    *,
    processes: Processes,
    log: RunLog,
    sampler: Sampler | None = None,
    extra_validation: ExtraValidation | None = None,
) -> TrainingRun:
    """The run before its first step."""
    return TrainingRun(
        prepared,
        optimizer=config.optimizer,
        conditions=config.conditions,
        flow=config.flow,
        run=config.run,
        validation=config.validation,
        selection=config.selection,
        recompute_every=config.blocks.recompute_every,
        settings=config.to_json(),
        processes=processes,
        folder=RunFolder(config.run.output_dir, graph_mode=config.adapter.graph_mode),
        log=log,
        sampler=sampler,
        extra_validation=extra_validation,
    )


def sampler_of(
    config: TrainConfig,
    prepared: Preparation,
    watched: Watched,
    texts: EncodedTexts,
    *,
    processes: Processes,
) -> Sampler:
    """What draws the sample graphs; the autoencoder stays loaded for it.

    Args:
        config: Configuration of the run.
        prepared: Model of the run.
        watched: Graphs, and who judges them.
        texts: Features of their texts.
        processes: Processes that share the drawing.

    Raises:
        SgfluxError: if the autoencoder or the noise levels cannot be loaded.
    """
    family, memory = family_of(config.model), config.memory
    device = memory.encoder_device or processes.device
    return Sampler(
        watched=watched,
        pipeline=partial(
            trained_pipeline,
            prepared.model,
            text_encoders=texts,
            autoencoder=family.load_autoencoder(config.model, dtype=prepared.dtype, device=device),
            scheduler=family.load_scheduler(config.model),
            model_id=config.model.name,
            quantize=memory.quantize,
        ),
        size=config.pictures.size,
        steps=config.run.sample_steps,
        seed=config.run.seed,
        batch_size=config.optimizer.batch_size,
        processes=processes,
    )


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
    _guidance(config, model)
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
        lora_modules=model.config.lora_modules,
        training_adapter=splits.training_adapter,
        teacher_passes=sum(need.teacher_passes for need in splits.needs),
        device=processes.device,
        sharers=processes.sharers() if config.processes.shard_base else 1,
        decodes=config.samples.sample_graphs is not None,
    )
    return plan, costs


def _guidance(config: TrainConfig, model: GraphLoraModel) -> float | None:
    return guidance_told(
        config.flow.guidance,
        network=model.flux.network,
        default=DEFAULT_GUIDANCE,
        model=config.model.name,
    )
