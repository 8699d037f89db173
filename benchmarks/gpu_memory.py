"""Memory of training steps: estimates by arithmetic, and the row memory-table of benchmarks/gpu.py.

    python benchmarks/gpu_memory.py     prints the estimates, one JSON line each; no GPU needed

The row measures the peaks of a step with one and with two examples. Every further example takes the
same amount of memory, so the two give the largest batch for a card; one such batch is tried.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from gpu_bench import FULL, SIZES, Bench, step_fits
from gpu_speed import peak_of
from measuring import fits, significant
from ways import Ours

from sgflux.bases.flux1.load import model_identity
from sgflux.bases.memory.quantization import BITS, quantizable, quantize_base
from sgflux.errors import SgfluxError
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.name_features import NameFeatures
from sgflux.training.planning.estimate import Shape, activation_bytes, operations_per_example

TEXT_TOKENS = 256
CAPS_GB = (24, 48, 80)
CUDA_GIB = 0.6
"""Memory that CUDA takes beside PyTorch's allocator, kept free below every cap."""


@dataclass(frozen=True)
class Mode:
    """A combination of settings that save memory.

    Attributes:
        name: Name in the JSON and the tables.
        recompute_every: Distance between recomputed blocks; 0 if no block is recomputed.
        quantize: Format of the rounded weights (int8, float8 or nf4), or None.
        offload: Whether all but the adapted blocks are kept in the CPU's memory.
    """

    name: str
    recompute_every: int
    quantize: Any = None
    offload: bool = False


MODES = (
    Mode("plain", 0),
    Mode("checkpointed every 2nd", 2),
    Mode("checkpointed", 1),
    Mode("int8 checkpointed", 1, "int8"),
    Mode("float8 checkpointed", 1, "float8"),
    Mode("nf4", 0, "nf4"),
    Mode("nf4 checkpointed", 1, "nf4"),
    Mode("offloaded checkpointed", 1, offload=True),
)


# --- measured -------------------------------------------------------------------------------------


def memory_table(bench: Bench) -> dict[str, Any]:
    """Measure the peak memory of every mode at every size, and derive the largest batches."""
    found: dict[str, Any] = bench.earlier or {"cuda_gib": CUDA_GIB, "modes": {}}
    for mode in MODES:
        if mode.name in found["modes"]:
            continue
        try:
            found["modes"][mode.name] = measured(bench, mode)
        except SgfluxError as error:  # a library is not installed
            found["modes"][mode.name] = {"skipped": str(error)}
        except torch.OutOfMemoryError:
            found["modes"][mode.name] = {"skipped": "out of memory while it was set up"}
        if bench.place.is_cuda and (mode.quantize or mode.offload):
            bench.drop_flux()  # its weights are rounded, or in the CPU's memory
        bench.keep(found)
    if bench.place.is_cuda:
        found["tried"] = tried(bench, found["modes"]["plain"], cap_gb=48)
    return found


def measured(bench: Bench, mode: Mode) -> dict[str, Any]:
    """Measure one mode at every size."""
    if bench.toy and (mode.quantize or mode.offload):
        raise SgfluxError("needs a GPU")
    place, rows = bench.place, {}
    with bench.ours(bench.task(512)) as ours:
        if mode.quantize is not None:
            quantize_base(
                bench.flux(), mode.quantize, keep=frozenset(ours.adapter.lora_modules), device=None
            )
        if mode.offload:
            ours.model.offload_blocks(place.device)
        place.clean()
        for size in SIZES:
            peaks = [peak(bench, ours, mode, size, batch) for batch in (1, 2)]
            rows[str(size)] = {"peak_gib": peaks, **largest_batches(peaks)}
    return rows


def peak(bench: Bench, ours: Ours, mode: Mode, size: int, batch: int) -> float | None:
    """Measure the peak memory of a step in GiB; None if it does not fit this card."""
    text_tokens = TEXT_TOKENS // bench.scale.token_divisor  # the same at every size
    ours.task = replace(bench.task(size), text_tokens=text_tokens)
    recompute: dict[str, Any] = {}
    if mode.recompute_every:
        recompute = {"gradient_checkpointing": True, "checkpoint_every": mode.recompute_every}
    run = ours.run("B", batch, **recompute)
    if not fits(partial(step_fits, run), bench.place):
        return None
    return peak_of(run, bench.place)


def largest_batches(peaks: list[float | None]) -> dict[str, Any]:
    """Number of examples that fit each card, by the straight line through the first two peaks."""
    one, two = peaks
    if one is None or two is None or two <= one:
        return {}
    line = {"gib_per_example": significant(two - one, 3)}
    return line | {
        f"largest_in_{cap}_gb": int((allowed_gib(cap) - one) // (two - one) + 1)
        if one <= allowed_gib(cap)
        else 0
        for cap in CAPS_GB
    }


def allowed_gib(cap_gb: int) -> float:
    """Memory for tensors on a card of so many GB, in GiB."""
    return cap_gb * 1e9 / 2**30 - CUDA_GIB


def tried(bench: Bench, plain: Mapping[str, Any], *, cap_gb: int) -> dict[str, Any]:
    """Try the derived largest batch at 512 by 512 pixels under a real cap, and its neighbours."""
    predicted = plain.get("512", {}).get(f"largest_in_{cap_gb}_gb", 0)
    total = torch.cuda.get_device_properties(0).total_memory
    share = allowed_gib(cap_gb) * 2**30 / total
    if not predicted or share >= 1:
        return {"result": "nothing to try"}
    with bench.ours(bench.task(512)) as ours:
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            enough = {
                str(batch): fits(partial(step_fits, ours.run("B", batch)), bench.place)
                for batch in (predicted - 1, predicted, predicted + 1)
                if batch
            }
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return {"cap_gb": cap_gb, "size": 512, "predicted": predicted, "fits": enough}


# --- estimated ------------------------------------------------------------------------------------


def estimates() -> Iterator[dict[str, Any]]:
    """Estimate every mode at every size with one example."""
    model = weightless_model()
    for mode in MODES:
        for size in SIZES:
            yield {"mode": mode.name, "size": size, **estimate(model, mode, size)}


def weightless_model() -> GraphLoraModel:
    """FLUX.1-schnell's transformer with an adapter, without memory for its weights."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**FULL.flux).to(torch.bfloat16)
    # The adapter's identity of its base reads these weights.
    for layer in (transformer.x_embedder, transformer.proj_out):
        layer.to_empty(device="cpu")
        for weight in layer.parameters():
            weight.data.zero_()
    transformer.requires_grad_(False).eval()
    config = AdapterConfig(
        block_start=FULL.block_start,
        block_end=FULL.block_end,
        base=model_identity(transformer),
        max_sequence_length=TEXT_TOKENS,
    )
    return build_model(transformer=transformer, config=config, name_features=NameFeatures(4096))


def estimate(
    model: GraphLoraModel,
    mode: Mode,
    size: int,
    *,
    batch: int = 1,
    text_tokens: int = TEXT_TOKENS,
) -> dict[str, Any]:
    """Estimate the memory of a step, and count the operations of an example.

    Args:
        model: Transformer with its adapter; :func:`weightless_model` makes one.
        mode: Settings that save memory.
        size: Side of a picture in pixels.
        batch: Number of examples of the step.
        text_tokens: Number of text tokens of an example.
    """
    image_tokens = (size // 16) ** 2
    shape = Shape(
        inner_dim=3072,
        blocks=57,
        first_adapted=FULL.block_start,
        tokens=image_tokens + text_tokens,
        batch_size=batch,
        examples_per_step=batch,
        bytes_per_number=2,
        checkpoint_every=mode.recompute_every,
        lora_numbers=model.config.lora_numbers(image_tokens=image_tokens, text_tokens=text_tokens),
    )
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    base = 2 * (sum(weight.numel() for weight in weights) - trained)
    if mode.quantize is not None:
        keep = frozenset(model.config.lora_modules)
        rounded = sum(
            layer.weight.numel() for _, layer in quantizable(model.flux.transformer, keep=keep)
        )
        base -= round(rounded * (2 - BITS[mode.quantize] / 8))
    if mode.offload:
        double = model.flux.transformer.transformer_blocks
        start, end = FULL.block_start, FULL.block_end
        single = model.flux.transformer.single_transformer_blocks
        sizes = [
            2 * sum(weight.numel() for weight in block.parameters())
            for block in (*double[:start], *double[end:], *single)
        ]
        base += max(sizes) - sum(sizes)
    # Weight, gradient, AdamW's two moments and the moving average in float32.
    total = base + 20 * trained + activation_bytes(shape)
    return {
        "base_gib": round(base / 2**30, 2),
        "total_gib": round(total / 2**30, 2),
        "tflop": round(operations_per_example(shape) / 1e12, 1),
    }


def main() -> int:
    """Print the estimates.

    Returns:
        Exit status 0.
    """
    for row in estimates():
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
