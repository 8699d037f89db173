"""The model of a run: the frozen transformer with its adapter, and all else the loop needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgflux.bases.families import described, family_of
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.memory.quantization import quantize_base
from sgflux.data.buckets import Size
from sgflux.data.cache.arrays import TrainingArrays
from sgflux.flow_matching import SCHNELL_STEPS
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.block_range import default_block_range, validate_block_range
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.encoders import make_encoder
from sgflux.models.name_features import NameFeatures
from sgflux.models.training_adapter import TrainingAdapter, add_training_adapter
from sgflux.settings.adapter import AdapterSettings
from sgflux.settings.flow import FlowSettings
from sgflux.settings.graph_encoder import BOX_SETTINGS, GraphEncoderSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.training.batches.batch import BoxReading, LatentScale
from sgflux.training.encoding.splits import Splits
from sgflux.training.planning.plan import RunPlan, length_of
from sgflux.training.processes.processes import Processes
from sgflux.training.terms.term import Parts, Term
from sgflux.training.validation import Validator

DEFAULT_GUIDANCE = 1.0
"""Guidance scale that a guidance-distilled model is told in training."""


@dataclass(frozen=True)
class Preparation:
    """All that the loop needs.

    Attributes:
        model: Frozen transformer with its adapter, on the device.
        adapter: Description of the adapter.
        train: Encoded training set.
        validator: None without a validation set.
        latent_scale: Shift and scale of the autoencoder.
        dtype: Precision of the arithmetic.
        guidance: Guidance that a guidance-distilled model is told; None for any other model.
        digests: Split, or name of another file that decides the training -> SHA-256 of that file.
        content: Split -> digest of its rows and the bytes of their pictures.
        seen: Split -> digests of each of its rows and pictures.
        plan: Numbers of the run.
        terms: Terms of the loss.
        parts: Parts that the terms of the loss are made of.
        sigma_shift: Shift of the noise levels drawn, see :func:`sgflux.flow_matching.shifted`.
        training_adapter: Frozen LoRA that is in the base while it is trained; None without.
        sigma_shifts: Shift of each size, with aspect buckets; else empty.
        boxes: Boxes that the graph encoder reads; None: it reads none.
    """

    model: GraphLoraModel
    adapter: AdapterConfig
    train: TrainingArrays
    validator: Validator | None
    latent_scale: LatentScale
    dtype: torch.dtype
    guidance: float | None
    digests: dict[str, str]
    content: dict[str, str]
    seen: dict[str, dict[str, np.ndarray]]
    plan: RunPlan
    terms: Sequence[Term]
    parts: Parts
    sigma_shift: float
    training_adapter: TrainingAdapter | None
    sigma_shifts: Mapping[Size, float] = field(default_factory=dict)
    boxes: BoxReading | None = None

    def sigma_shift_of(self, rows: Sequence[int]) -> float:
        """The shift of the noise levels drawn for training examples of one size."""
        if not self.train.sizes:
            return self.sigma_shift
        return self.sigma_shifts[self.train.sizes[rows[0]]]

    def as_sampled(self) -> AbstractContextManager[None]:
        """A context in which the training adapter is off, as it is in sampling."""
        if self.training_adapter is None:
            return nullcontext()
        return self.training_adapter.switched_off()


def place(
    model: GraphLoraModel,
    memory: MemorySettings,
    *,
    compiles: bool,
    training_adapter: Path | None,
    processes: Processes,
    shares_base: bool,
) -> TrainingAdapter | None:
    """Bring a model to the device in the form in which it is trained.

    Args:
        model: Model with its adapter.
        memory: Whether it is quantised or offloaded.
        compiles: Whether its blocks are compiled.
        training_adapter: File of the training adapter; None: there is none.
        processes: Processes that share the work, each on its device.
        shares_base: Whether they share the frozen weights of the blocks as well.

    Returns:
        The training adapter, which is in the base now.

    Raises:
        SgfluxError: if the training adapter does not fit the model.
    """
    transformer, added, device = model.flux.transformer, None, processes.device
    if training_adapter is not None:
        added = add_training_adapter(transformer, training_adapter)
    if memory.quantize != "none":
        keep = frozenset(model.config.lora_modules)
        quantize_base(transformer, memory.quantize, keep=keep, device=device)
    if memory.offload_blocks:
        model.offload_blocks(device, folder=memory.offload_folder)
    elif shares_base:
        model.share_blocks(processes.sharing_base(), device)
    else:
        model.to(device)
    if compiles:
        model.flux.compile_blocks()
    return added


def adapted_model(
    transformer: Any,
    pretrained: CGIPEncoder | None,
    *,
    adapter: AdapterSettings,
    encoder: GraphEncoderSettings,
    predicts_layout: bool,
    text_tokens: int,
    names: NameFeatures | None = None,
    base_identity: BaseIdentity | None = None,
) -> GraphLoraModel:
    """Put an untrained adapter into a transformer.

    The first weights come from torch's global generator.

    Args:
        transformer: Transformer of the base; it is changed in place.
        pretrained: Graph encoder that comes trained; None: the native one.
        adapter: Settings of the adapter.
        encoder: Settings of the graph encoder.
        predicts_layout: Whether the native encoder has a predictor of boxes.
        text_tokens: Number of tokens of a prompt.
        names: Features of the graphs' words; None: none are known, and no graph can be read.
        base_identity: Identity of the base, which the adapter records; None: it records none.

    Raises:
        SgfluxError: if the block range does not fit the transformer.
    """
    base = described(transformer)
    layers = base["num_layers"]
    start, end = default_block_range(layers)
    if adapter.block_start is not None and adapter.block_end is not None:
        start, end = adapter.block_start, adapter.block_end
        validate_block_range(start, end, layers)
    if base_identity is not None:
        base["identity"] = base_identity.to_json()
    config = AdapterConfig(
        graph_mode=adapter.graph_mode,
        block_start=start,
        block_end=end,
        lora_rank=adapter.lora_rank,
        lora_alpha=adapter.lora_alpha,
        lora_targets=adapter.lora_targets,
        encoder=(
            {
                "kind": "native",
                "hidden_dim": encoder.graph_encoder_dim,
                "layers": encoder.graph_encoder_layers,
                "number_triples": encoder.number_triples,
                **{name: getattr(encoder, name) for name in BOX_SETTINGS},
                "predict_layout": predicts_layout,
            }
            if pretrained is None
            else pretrained.config()
        ),
        base=base,
        max_sequence_length=text_tokens,
    )
    names = NameFeatures(config.text_dim) if names is None else names
    frozen = None
    if encoder.freeze_graph_encoder:  # at its random initial weights
        frozen = make_encoder(config.encoder, name_features=names).requires_grad_(False)
    return build_model(
        transformer=transformer,
        config=config,
        name_features=names,
        encoder=pretrained or frozen,
    )


def plan_of(
    optimizer: OptimizerSettings,
    splits: Splits,
    model: GraphLoraModel,
    *,
    passes: int,
    image_tokens: int,
    sizes: Sequence[Size] = (),
) -> RunPlan:
    """The numbers of the run.

    Args:
        optimizer: Length of the run, and its batches.
        splits: Data of the run.
        model: Model with its adapter.
        passes: Number of forward passes of a step, over all processes.
        image_tokens: Number of image tokens of a picture; with aspect buckets, of the largest one.
        sizes: Size of each training picture, with aspect buckets; else empty.
    """
    weights, adapter = list(model.parameters()), model.config
    examples, buckets = len(splits.train), list(Counter(sizes).values())
    steps, warmup = length_of(optimizer, examples=examples, passes=passes, bucket_counts=buckets)
    return RunPlan(
        train_examples=examples,
        val_examples=len(splits.items),
        val_pairs=sum(item.negative is not None for item in splits.items),
        passes=passes,
        examples_per_step=optimizer.batch_size * passes,
        max_steps=steps,
        warmup_steps=warmup,
        block_start=adapter.block_start,
        block_end=adapter.block_end,
        blocks_in_words=adapter.blocks_in_words,
        image_tokens=image_tokens,
        text_tokens=adapter.max_sequence_length,
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        total=sum(weight.numel() for weight in weights),
        buckets=len(buckets),
    )


def sigma_shift_of(flow: FlowSettings, model: ModelSource, *, image_tokens: int) -> float:
    """How far the drawn noise levels are moved towards noise; 1: not at all.

    Raises:
        SgfluxError: if the model's scheduler cannot be loaded.
    """
    if flow.sigma_shift == "none" or flow.sigma_scheme == "schnell":
        return 1.0
    scheduler = family_of(model).load_scheduler(model)
    return scheduler.resolution_shift(image_tokens, always=flow.sigma_shift != "auto")


def sampling_sigmas_of(model: ModelSource, *, image_tokens: int) -> torch.Tensor:
    """The noise levels of the model's own four-step sampling, (4,) float32.

    Raises:
        SgfluxError: if the model's scheduler cannot be loaded.
    """
    scheduler = family_of(model).load_scheduler(model)
    device = torch.device("cpu")
    return scheduler.schedule(SCHNELL_STEPS, image_tokens=image_tokens, device=device).sigmas
