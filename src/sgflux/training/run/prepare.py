"""From encoded data to a run before its first step: the model, the loss's parts and the loop."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import torch

from sgflux.bases.devices import DTYPES
from sgflux.bases.families import family_of
from sgflux.bases.guidance import guidance_told
from sgflux.bases.identity import BaseIdentity
from sgflux.data.layouts import shown_layouts
from sgflux.errors import SgfluxError
from sgflux.flow_matching import sigma_grid
from sgflux.models.adapter import AdapterConfig, GraphLoraModel
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
from sgflux.training.encoding.encode import Encoded, image_tokens_of
from sgflux.training.encoding.graph_encoder import pretrained_encoder
from sgflux.training.encoding.splits import Say, Splits
from sgflux.training.log.run_log import RunLog
from sgflux.training.loop import TrainingRun
from sgflux.training.processes.processes import Processes
from sgflux.training.randomness import derived_seed
from sgflux.training.run_validations import ExtraValidation
from sgflux.training.samples.sampler import Sampler
from sgflux.training.terms.regions import relation_regions
from sgflux.training.terms.term import Parts
from sgflux.training.validation import Validator


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
        guidance=guidance_of(config, model),
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


def guidance_of(config: TrainConfig, model: GraphLoraModel) -> float | None:
    """Return the guidance scale that the model is told in training; None: it takes none.

    Raises:
        SgfluxError: if a guidance is set that has no effect on the model.
    """
    return guidance_told(
        config.flow.guidance,
        network=model.flux.network,
        default=DEFAULT_GUIDANCE,
        model=config.model.name,
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
