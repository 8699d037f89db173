"""What the training of an adapter on a described base costs, before the base is loaded."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sgflux.bases.devices import usable_device
from sgflux.bases.families import network_of
from sgflux.bases.family import Outline
from sgflux.bases.memory.offload import offloadable
from sgflux.bases.memory.quantization import BITS, quantizable
from sgflux.bases.weight_files import numbers_in_file
from sgflux.models.adapter_config import AdapterConfig
from sgflux.settings.memory import MemorySettings
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.training.planning.estimate import Shape, estimate_lines
from sgflux.training.planning.plan import RunPlan


def cost_lines(
    base: Outline,
    plan: RunPlan,
    *,
    optimizer: OptimizerSettings,
    memory: MemorySettings,
    dtype: str,
    recompute_every: int,
    adapter: AdapterConfig,
    training_adapter: Path | None,
    teacher_passes: float,
    device: torch.device,
    sharers: int,
    decodes: bool = False,
) -> list[str]:
    """What a run will cost, a line each.

    Args:
        base: Base model, with the adapter in it.
        plan: Numbers of the run.
        optimizer: Settings of the optimizer.
        memory: Ways to need less memory.
        dtype: Precision of the base, "fp32" or "bf16".
        recompute_every: Every n-th block is recomputed in the backward pass; 0: none.
        adapter: Description of the adapter.
        training_adapter: File of the training adapter, if there is one.
        teacher_passes: Number of further forward passes of the base in each step.
        device: Device of the training.
        sharers: Number of processes that share the blocks of one base; 1: none do.
        decodes: Whether the autoencoder stays loaded to decode pictures during the training.
    """
    network = network_of(base.transformer)
    width = 4 if dtype == "fp32" else 2
    shape = Shape(
        inner_dim=network.inner_dim,
        blocks=len(network.blocks),
        first_adapted=plan.block_start,
        tokens=plan.image_tokens + plan.text_tokens,
        batch_size=optimizer.batch_size,
        examples_per_step=plan.examples_per_step,
        bytes_per_number=width,
        checkpoint_every=recompute_every,
        lora_numbers=adapter.lora_numbers(
            image_tokens=plan.image_tokens, text_tokens=plan.text_tokens
        ),
        teacher_passes=teacher_passes,
    )
    base_bytes = width * (plan.total - plan.trainable)
    if training_adapter is not None:
        base_bytes += width * numbers_in_file(training_adapter)
    if memory.quantize != "none":
        layers = quantizable(base.transformer, keep=frozenset(adapter.lora_modules))
        rounded = sum(layer.weight.numel() for _, layer in layers)
        base_bytes -= round(rounded * (width - BITS[memory.quantize] / 8))
    offloaded = 0
    if memory.offload_blocks:
        away = offloadable(network, plan.block_start, plan.block_end)
        offloaded = width * sum(map(_numbers, away))
    shared = 0
    if sharers > 1:
        shared = width * sum(_numbers(block.module, frozen=True) for block in network.blocks)
    aside = memory.encoder_device
    return estimate_lines(
        shape,
        # The autoencoder runs in float32 whatever the rest is in.
        encoder_bytes=width * sum(map(_numbers, base.text_encoders))
        + 4 * _numbers(base.autoencoder),
        base_bytes=base_bytes,
        trained_numbers=plan.trainable,
        averaged=optimizer.ema_decay > 0,
        encoders_aside=aside is not None and usable_device(aside).type != device.type,
        offloaded_bytes=offloaded,
        shared_bytes=shared,
        sharers=sharers,
        decoder_bytes=width * _numbers(base.autoencoder) if decodes else 0,
    )


def _numbers(module: nn.Module, *, frozen: bool = False) -> int:
    """Number of a module's weights, or of the frozen ones alone."""
    weights = module.parameters()
    return sum(weight.numel() for weight in weights if not (frozen and weight.requires_grad))
