"""Rows of benchmarks/gpu.py that check what sgflux computes on a GPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench
from measuring import Place, quietly, significant
from safetensors.torch import load_file
from torch import Tensor
from ways import SCALE, Ours, Task, make_arrays, statement_graph

from sgflux.bases.flux1.latents import image_ids, text_ids
from sgflux.bases.flux1.network import FluxInputs
from sgflux.bases.memory.attention_kernels import attention_kernel
from sgflux.models.adapter import adapter_disabled
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import draw_batch
from sgflux.training.objective import FlowMatchingObjective
from sgflux.training.run.train import train

BF16_GRADIENT_TOLERANCE = 0.05
"""Largest relative error, in norm, of a whole bf16 gradient compared with float32."""
FLOAT32_GRADIENT_TOLERANCE = 1e-3
"""Largest relative error of a float32 gradient on the card compared with the CPU's."""
MEAN_PIXEL_TOLERANCE = 1.0
"""Largest mean difference of pictures on card and CPU, in steps of 1/255."""
FAR_PIXELS_TOLERANCE = 0.01
"""Largest share of pixel values that differ by more than 8/255."""


def exact(bench: Bench) -> dict[str, Any]:
    """Check that a graph with zero gates leaves plain diffusers' bf16 output equal bit for bit."""
    task, device = bench.task(512), bench.place.device
    transformer = bench.flux()
    config, count = transformer.config, 2
    tensors = {
        "hidden_states": torch.randn(count, task.image_tokens, 64),
        "encoder_hidden_states": torch.randn(count, task.text_tokens, config.joint_attention_dim),
        "pooled_projections": torch.randn(count, config.pooled_projection_dim),
        "img_ids": image_ids(*task.grid),
        "txt_ids": text_ids(task.text_tokens),
    }
    tensors = {name: value.to(device, torch.bfloat16) for name, value in tensors.items()}
    # diffusers rounds the noise level to bf16, sgflux does not: these are bf16 numbers.
    inputs = FluxInputs(**tensors, timestep=torch.tensor([0.5, 0.25], device=device))
    with torch.no_grad():
        plain = transformer(**vars(inputs)).sample
    with bench.ours(task) as ours, torch.no_grad():
        graphs = [statement_graph(0, 1), statement_graph(1, 2)]
        ours.add_names(graphs)
        ours.activate()
        told = ours.model(graphs, inputs)
        with torch.autocast(device.type, torch.bfloat16):
            mixed = ours.model(graphs, inputs)
            with adapter_disabled(ours.model):
                mixed_plain = ours.model(None, inputs)
        ours.model.flux.conditioner.gate_image.fill_(0.5)
        opened = ours.model(graphs, inputs)
    return {
        "equal": torch.equal(told, plain),
        "largest_difference": float((told - plain).abs().max()),
        "equal_in_mixed_precision": torch.equal(mixed, mixed_plain),
        "largest_difference_in_mixed_precision": float((mixed - mixed_plain).abs().max()),
        "open_gates_change_it": not torch.equal(opened, plain),
        "finite": bool(plain.isfinite().all()),
        "ok": torch.equal(told, plain) and torch.equal(mixed, mixed_plain),
    }


def gradients(bench: Bench) -> dict[str, Any]:
    """Compare an adapter's gradients in bf16 with float32, and in float32 with the CPU's."""
    on_cpu = Place(torch.device("cpu"))
    truth = adapter_gradients("fp32", on_cpu)
    single = adapter_gradients("fp32", bench.place)
    half = adapter_gradients("bf16", bench.place)
    parts = ("lora", "conditioner", "encoder")
    found: dict[str, Any] = {
        "bf16_beside_fp32": {part: relative_error(half, single, part) for part in ("", *parts)},
        "fp32_beside_cpu": {part: relative_error(single, truth, part) for part in ("", *parts)},
        "tolerances": [BF16_GRADIENT_TOLERANCE, FLOAT32_GRADIENT_TOLERANCE],
    }
    for errors in (found["bf16_beside_fp32"], found["fp32_beside_cpu"]):
        errors["all"] = errors.pop("")
    found["ok"] = (
        found["bf16_beside_fp32"]["all"] <= BF16_GRADIENT_TOLERANCE
        and found["fp32_beside_cpu"]["all"] <= FLOAT32_GRADIENT_TOLERANCE
    )
    return found


def adapter_gradients(dtype: str, place: Place) -> dict[str, Tensor]:
    """Gradients of the flow-matching error on a small FLUX, by name, float32 on the CPU."""
    from step import make_wide

    transformer = make_wide().requires_grad_(False).eval()
    task = Task(
        height=128, width=128, text_tokens=16, block_start=1, block_end=3, dtype=dtype, examples=4
    )
    # All of it is made on the CPU in float32: a card would draw other weights.
    ours = Ours(transformer, task, place=Place(torch.device("cpu")))
    arrays = make_arrays(task, transformer, statements=2)
    ours.add_names([example.graph for example in arrays.examples])
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in ours.model.trainable_parameters().items():
            drawn = torch.randn(weight.shape, generator=noise).to(weight)
            if "gate" in name:
                weight.copy_(0.5 + 0.1 * drawn)
            elif "lora_B" in name:
                weight.copy_(0.02 * drawn)
    ours.model.to(place.device)
    for weight in ours.model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(task.torch_dtype)
    batch = draw_batch(
        arrays,
        range(4),
        latent_scale=SCALE,
        prompt_weights={"neutral": 1.0},
        null_graph_probability=0.0,
        sigma_scheme="uniform",
        t_min=0.2,
        t_max=0.8,
        generator=noise,
    ).to(place.device)
    objective = FlowMatchingObjective(
        ours.model, dtype=task.torch_dtype, guidance=None, gradient_checkpointing=False
    )
    with attention_kernel(place.device):
        objective(batch, [batch.graphs])[0].mean().backward()
    return {
        name: weight.grad.float().cpu()
        for name, weight in ours.model.trainable_parameters().items()
        if weight.grad is not None
    }


def relative_error(found: Mapping[str, Tensor], truth: Mapping[str, Tensor], part: str) -> float:
    """||found - truth|| / ||truth|| over the weights whose name begins with ``part``."""
    names = [name for name in truth if name.startswith(part)]
    wrong = sum(float((found[name] - truth[name]).double().square().sum()) for name in names)
    return significant((wrong / sum(float(truth[n].double().square().sum()) for n in names)) ** 0.5)


def short_training(bench: Bench, folder: Path, **changes: Any) -> TrainConfig:
    """Settings of thirty training steps on tiny-flux, like the demo's."""
    return TrainConfig.from_flat(
        **{
            "train_jsonl": bench.world(1 if bench.toy else 4) / "train.jsonl",
            "output_dir": folder,
            "model_id": "tiny",
            "device": str(bench.place.device),
            "height": 64,
            "width": 64,
            "block_start": 0,
            "block_end": 6,
            "max_steps": 4 if bench.toy else 30,
            "batch_size": 4 if bench.toy else 16,
            "lr": 2e-3,
            "gate_lr_scale": 10.0,
            "save_every": 2 if bench.toy else 15,
            "keep_checkpoints": 0,
            "sample_steps": 0,
            "seed": 0,
            **changes,
        }
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a finished run's bundle in float64, since some are integers."""
    return {
        f"{path.name}:{name}": tensor.double()
        for path in sorted((folder / "final").glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Largest absolute difference of any weight."""
    assert one.keys() == other.keys(), "both bundles have the same weights"
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def training(bench: Bench) -> dict[str, Any]:
    """Train 30 steps, and train the second half again from a checkpoint; compare the weights.

    On a GPU the weights differ, since some kernels add numbers in an order that changes from run to
    run. A third run, from the start, shows by how much; resuming may not change the weights by more
    than twice that.
    """
    whole = short_training(bench, bench.folder / "whole")
    weights, resumed = train_and_resume(whole)
    found: dict[str, Any] = {
        "steps": whole.optimizer.max_steps,
        "resumed_after": half_of(whole),
        "largest_weight": max(
            float(weight.abs().max()) for name, weight in weights.items() if "lora" in name
        ),
        "resumed_largest_difference": largest_difference(weights, resumed),
    }
    found["resumed_equal"] = found["resumed_largest_difference"] == 0
    found["ok"] = found["resumed_equal"]
    if bench.place.is_cuda and not found["resumed_equal"]:
        bench.keep(found)
        again = whole.changed(output_dir=bench.folder / "twice")
        with quietly():
            train(again)
        repeated = largest_difference(weights, weights_of(again.run.output_dir))
        found["repeated_largest_difference"] = repeated
        found["ok"] = found["resumed_largest_difference"] <= 2 * repeated
    return found


def train_and_resume(whole: TrainConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of a run, and of its second half trained again from its checkpoint."""
    again = whole.changed(
        output_dir=whole.run.output_dir.with_name(f"{whole.run.output_dir.name}-resumed"),
        resume=str(whole.run.output_dir / f"step{half_of(whole)}.pt"),
    )
    with quietly():
        train(whole)
        train(again)
    return weights_of(whole.run.output_dir), weights_of(again.run.output_dir)


def half_of(config: TrainConfig) -> int:
    """Number of steps after which a run is resumed."""
    return (config.optimizer.max_steps or 0) // 2


def deterministic_training(bench: Bench) -> dict[str, Any]:
    """Train and resume with ``deterministic``; the weights must be equal.

    A new process trains, since cuBLAS must be told before the first use of the card.
    """
    whole = short_training(bench, bench.folder / "deterministic", deterministic=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        difference = pool.apply(difference_after_resuming, (whole,))
    found: dict[str, Any] = {
        "steps": whole.optimizer.max_steps,
        "resumed_after": half_of(whole),
        "resumed_largest_difference": difference,
    }
    found["resumed_equal"] = found["ok"] = found["resumed_largest_difference"] == 0
    return found


def difference_after_resuming(whole: TrainConfig) -> float:
    """Largest difference of a run's weights from those of its second half trained again."""
    return largest_difference(*train_and_resume(whole))


def pictures(bench: Bench) -> dict[str, Any]:
    """Compare an adapter's pictures on the card, in float32 and bf16, with those of the CPU."""
    adapter = bench.adapter or bench.folder / "whole" / "final"
    if not adapter.is_dir():
        alone = short_training(bench, bench.folder / "for_pictures")
        with quietly():
            train(alone)
        adapter = alone.run.output_dir / "final"
    count = 2 if bench.toy else 8
    graphs = [statement_graph(number, 1 + number % 2) for number in range(count)]
    drawn: dict[str, np.ndarray] = {}
    for name, device, dtype in (
        ("cpu", torch.device("cpu"), torch.float32),
        ("fp32", bench.place.device, torch.float32),
        ("bf16", bench.place.device, torch.bfloat16),
    ):
        with quietly():
            pipeline = SceneGraphFluxPipeline.from_pretrained(
                "tiny", adapter=adapter, device=device, dtype=dtype
            )
        drawn[name] = pipeline(
            graphs,
            num_inference_steps=2 if bench.toy else 8,
            seed=list(range(count)),
            graph_scale=1.5,
            output_type="np",
        ).images
    found: dict[str, Any] = {"pictures": count, "adapter": "given" if bench.adapter else "trained"}
    for name in ("fp32", "bf16"):
        apart = 255 * np.abs(drawn[name] - drawn["cpu"])
        found[name] = {
            "mean_difference": significant(float(apart.mean())),
            "largest_difference": significant(float(apart.max())),
            "share_beyond_8": significant(float((apart > 8).mean())),
        }
    found["tolerances"] = [MEAN_PIXEL_TOLERANCE, FAR_PIXELS_TOLERANCE]
    found["ok"] = (
        found["fp32"]["mean_difference"] <= MEAN_PIXEL_TOLERANCE
        and found["fp32"]["share_beyond_8"] <= FAR_PIXELS_TOLERANCE
    )
    return found
