"""Memory and time of a training step on FLUX.1 in full size, with random weights.

It was NOT run where it was written: no GPU was at hand. Its only checked part is --dry-run, which
prints the estimates of `sgflux.training.estimate` without a GPU, and the search for the largest
batch, which a test runs on invented memory. On a GPU:

    python benchmarks/flux_memory.py > flux_memory.jsonl

One JSON line for each combination of mode and size: peak memory in GiB and seconds a step (the
median of five after two warm-up steps) with one example a step, or "out of memory"; then, for each
cap of the allocator at 24, 48 and 80 GB (less what CUDA itself takes), the largest batch that fits.
Adapter: LoRA of rank 16 in double blocks 7 to 12, native graph encoder, 256 text tokens, AdamW.

A mode whose library is not installed is said to be skipped (`pip install "sgflux[quantize,nf4]"`).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.backbone import image_ids, model_identity, text_ids
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.quantization import BITS, quantizable, quantize_base
from sgflux.training.estimate import Shape, activation_bytes, operations_per_example

TEXT_TOKENS = 256
SIZES = (256, 512, 1024)
CAPS_GB = (24, 48, 80)
CUDA_GIB = 0.6
"""What CUDA takes beside the allocator, kept free below every cap."""
LARGEST_BATCH = 256
GRAPH = SceneGraph.parse("man, riding, horse; man, wearing, hat")


@dataclass(frozen=True)
class Mode:
    """How memory is saved.

    Attributes:
        name: for the records.
        recompute_every: of how many blocks one is recomputed; 0: none.
        quantize: int8, float8 or nf4 weights, or None.
        offload: keep all but the adapted blocks in the CPU's memory.
    """

    name: str
    recompute_every: int
    quantize: Any = None
    offload: bool = False


MODES = (
    Mode("plain", 0),
    Mode("checkpointed", 1),
    Mode("checkpointed every 2nd", 2),
    Mode("int8 checkpointed", 1, "int8"),
    Mode("float8 checkpointed", 1, "float8"),
    Mode("nf4", 0, "nf4"),
    Mode("nf4 checkpointed", 1, "nf4"),
    Mode("offloaded checkpointed", 1, offload=True),
)


def make_model(device: str, mode: Mode) -> GraphLoraModel:
    """FLUX.1-schnell's transformer with random bf16 weights and an adapter in it.

    Raises:
        SgfluxError: if a library is not installed.
    """
    comes_small = mode.quantize is not None or mode.offload
    made_on = "cpu" if comes_small and device != "meta" else device
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=False).to(torch.bfloat16)
    if device != "meta":
        transformer.to_empty(device=made_on)
        for weight in transformer.parameters():
            weight.data.normal_(std=0.02)
    else:
        for layer in (transformer.x_embedder, transformer.proj_out):
            layer.to_empty(device="cpu")
            for weight in layer.parameters():
                weight.data.zero_()
    transformer.requires_grad_(False).eval()
    names = NameFeatures(4096, lambda words: torch.randn(len(words), 4096))
    config = AdapterConfig(
        block_start=7,
        block_end=13,
        base=model_identity(transformer),
        max_sequence_length=TEXT_TOKENS,
    )
    model = build_model(transformer=transformer, config=config, name_features=names)
    if device == "meta":
        return model
    if mode.quantize is not None:
        keep = frozenset(config.lora_modules)
        quantize_base(transformer, mode.quantize, keep=keep, device=device)
    if mode.offload:
        model.offload_blocks(device)
    else:
        model.to(device)
    return model


def inputs_of(size: int, batch: int) -> dict[str, torch.Tensor]:
    """Examples of ``size`` by ``size`` pixels."""
    side = size // 16
    return {
        "hidden_states": torch.randn(batch, side * side, 64, dtype=torch.bfloat16),
        "encoder_hidden_states": torch.randn(batch, TEXT_TOKENS, 4096, dtype=torch.bfloat16),
        "pooled_projections": torch.randn(batch, 768, dtype=torch.bfloat16),
        "timestep": torch.full((batch,), 0.5),
        "img_ids": image_ids(side, side),
        "txt_ids": text_ids(TEXT_TOKENS),
    }


def measure(
    model: GraphLoraModel, mode: Mode, size: int, *, batch: int = 1, steps: int = 7
) -> dict[str, Any]:
    """Peak memory and time of a step on the GPU."""
    graphs = [GRAPH] * batch
    inputs = {name: value.cuda() for name, value in inputs_of(size, batch).items()}
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=1e-4, fused=True)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    try:
        for _ in range(steps):
            torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16):
                velocity = model(graphs, gradient_checkpointing=mode.recompute_every, **inputs)
            velocity.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    except torch.OutOfMemoryError:
        optimizer.zero_grad(set_to_none=True)
        return {"result": "out of memory"}
    return {
        "result": "ok",
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "seconds": round(statistics.median(seconds[2:] or seconds), 3),
    }


def largest_batch(fits: Callable[[int], bool], *, limit: int) -> int:
    """The largest batch that fits, by doubling and then halving the interval; 0 if none does.

    Args:
        fits: whether a batch of that size does; once one does not, no larger one does.
        limit: no larger one is tried.
    """
    good, bad = 0, 1
    while bad <= limit and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, limit + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def largest_within(model: GraphLoraModel, mode: Mode, size: int, cap_gb: int) -> dict[str, Any]:
    """The largest batch that trains with so much memory on the GPU."""
    total = torch.cuda.get_device_properties(0).total_memory
    allowed = cap_gb * 10**9 - CUDA_GIB * 2**30
    if total < allowed:
        return {"result": "the card is smaller"}
    torch.cuda.set_per_process_memory_fraction(allowed / total)

    def fits(batch: int) -> bool:
        return measure(model, mode, size, batch=batch, steps=2)["result"] == "ok"

    try:
        return {"result": "ok", "largest_batch": largest_batch(fits, limit=LARGEST_BATCH)}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def estimate(model: GraphLoraModel, mode: Mode, size: int) -> dict[str, Any]:
    """The same without a GPU, by arithmetic alone."""
    shape = Shape(
        inner_dim=3072,
        blocks=57,
        first_adapted=7,
        tokens=(size // 16) ** 2 + TEXT_TOKENS,
        batch_size=1,
        examples_per_step=1,
        bytes_per_number=2,
        checkpoint_every=mode.recompute_every,
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
        away = [*double[:7], *double[13:], *model.flux.transformer.single_transformer_blocks]
        sizes = [2 * sum(weight.numel() for weight in block.parameters()) for block in away]
        base += max(sizes) - sum(sizes)
    total = base + 16 * trained + activation_bytes(shape)
    return {
        "result": "estimated",
        "base_gib": round(base / 2**30, 2),
        "total_gib": round(total / 2**30, 2),
        "tflop": round(operations_per_example(shape) / 1e12, 1),
    }


def runs(*, dry: bool) -> Iterator[dict[str, Any]]:
    """Every combination, one record each."""
    for mode in MODES:
        try:
            model = make_model("meta" if dry else "cuda", mode)
        except SgfluxError as error:
            yield {"mode": mode.name, "result": f"skipped: {error}"}
            continue
        for size in SIZES:
            record = {"mode": mode.name, "size": size}
            if dry:
                yield record | estimate(model, mode, size)
                continue
            yield record | measure(model, mode, size)
            for cap in CAPS_GB:
                yield record | {"cap_gb": cap} | largest_within(model, mode, size, cap)
        del model
        gc.collect()


def main() -> int:
    """Print one JSON line for each run; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="estimate, without a GPU")
    dry = parser.parse_args().dry_run
    if not dry and not torch.cuda.is_available():
        print("error: this needs a CUDA GPU; --dry-run estimates without one", file=sys.stderr)
        return 2
    for record in runs(dry=dry):
        print(json.dumps(record), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
