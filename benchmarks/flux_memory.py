"""Memory and time of a training step on FLUX.1 in full size, with random weights.

It was NOT run where it was written: no GPU was at hand. Its only checked part is --dry-run, which
prints the estimates of `sgflux.training.estimate` without a GPU. On a GPU:

    python benchmarks/flux_memory.py > flux_memory.jsonl

One JSON line for each combination of size, mode and allocator cap: peak memory in GiB and seconds a
step (the median of five after two warm-up steps), or "out of memory". Adapter: LoRA of rank 16 in
double blocks 7 to 12, native graph encoder, 256 text tokens, one example a step, AdamW.

nf4 and block-wise offload are not measured, because this version does not have them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.backbone import image_ids, model_identity, text_ids
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.quantization import quantizable, quantize_base
from sgflux.training.estimate import Shape, activation_bytes, operations_per_example

TEXT_TOKENS = 256
SIZES = (256, 512, 1024)
CAPS_GIB = (24, 48, 80)
GRAPH = SceneGraph.parse("man, riding, horse; man, wearing, hat")


@dataclass(frozen=True)
class Mode:
    """How memory is saved: a name, every how many blocks are recomputed, eight-bit weights."""

    name: str
    recompute_every: int
    quantize: Any = None


MODES = (
    Mode("plain", 0),
    Mode("checkpointed", 1),
    Mode("checkpointed every 2nd", 2),
    Mode("int8 checkpointed", 1, "int8"),
    Mode("float8 checkpointed", 1, "float8"),
)


def make_model(device: str, quantize: Any) -> GraphLoraModel:
    """FLUX.1-schnell's transformer with random bf16 weights and an adapter in it."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=False).to(torch.bfloat16)
    if device != "meta":
        transformer.to_empty(device=device)
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
    if quantize is not None and device != "meta":
        quantize_base(transformer, quantize)
    return model


def inputs_of(size: int) -> dict[str, torch.Tensor]:
    """One example of ``size`` by ``size`` pixels."""
    side = size // 16
    return {
        "hidden_states": torch.randn(1, side * side, 64, dtype=torch.bfloat16),
        "encoder_hidden_states": torch.randn(1, TEXT_TOKENS, 4096, dtype=torch.bfloat16),
        "pooled_projections": torch.randn(1, 768, dtype=torch.bfloat16),
        "timestep": torch.tensor([0.5]),
        "img_ids": image_ids(side, side),
        "txt_ids": text_ids(TEXT_TOKENS),
    }


def measure(model: GraphLoraModel, mode: Mode, size: int) -> dict[str, Any]:
    """Peak memory and time of a step on the GPU."""
    inputs = {name: value.cuda() for name, value in inputs_of(size).items()}
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=1e-4, fused=True)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    try:
        for _ in range(7):
            torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.autocast("cuda", torch.bfloat16):
                velocity = model([GRAPH], gradient_checkpointing=mode.recompute_every, **inputs)
            velocity.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    except torch.OutOfMemoryError:
        return {"result": "out of memory"}
    return {
        "result": "ok",
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "seconds": round(statistics.median(seconds[2:]), 3),
    }


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
        base -= sum(layer.weight.numel() for _, layer in quantizable(model.flux.transformer))
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
        model = make_model("meta" if dry else "cuda", mode.quantize)
        for size in SIZES:
            if dry:
                yield {"mode": mode.name, "size": size, **estimate(model, mode, size)}
                continue
            total = torch.cuda.get_device_properties(0).total_memory
            for cap in CAPS_GIB:
                fraction = min(1.0, cap * 2**30 / total)
                torch.cuda.set_per_process_memory_fraction(fraction)
                record = {"mode": mode.name, "size": size, "cap_gib": cap}
                yield record | measure(model, mode, size)
            torch.cuda.set_per_process_memory_fraction(1.0)
        del model


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
