"""The data of a run: it is read, looked at and encoded."""

from __future__ import annotations

from sgflux.settings.training import TrainConfig
from sgflux.training.encoding.encode import Encoded, PlannedEncoding, encode, plan_encoding
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.training.encoding.splits import (
    Say,
    Splits,
    check_selection,
    read_splits,
    with_terms,
    with_training_adapter,
)
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
    splits = with_terms(
        splits,
        config.losses,
        seed=seed,
        vocabulary=vocabulary,
        say=say,
        flow=config.flow,
    )
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
