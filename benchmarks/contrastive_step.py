"""What a contrastive step costs beside a plain one: forward and backward, without the optimizer.

    python benchmarks/contrastive_step.py > contrastive_step.jsonl

One JSON line for each way: the median of the seconds of a step, and how many plain steps that is.
``K negatives`` runs the true graphs and K corrupted ones as one batch behind one prefix, as
training does; ``K negatives, prefix each`` runs a whole forward for each of them, for comparison.
``counted`` is what the arithmetic says, (prefix + (1 + K) * rest) / (prefix + rest), in blocks,
where a block with a backward pass counts as three forwards.

The model is the bundled one unless another is named; latents and text features are noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.backbone import default_block_range, load_transformer, model_identity
from sgflux.models.graph_encoder import NameFeatures
from sgflux.models.saliency import default_concept_blocks
from sgflux.training.batches import Batch
from sgflux.training.losses import RankingForm
from sgflux.training.objective import Concepts, FlowMatchingObjective, attention_kernel
from sgflux.training.rankers import Branches, FlowRanker

TRUE, FALSE = SceneGraph.parse("man, riding, horse"), SceneGraph.parse("horse, riding, man")
WORDS = ["man", "riding", "horse"]
TEXT_TOKENS = 32


def make_model(model_id: str, *, device: torch.device, dtype: torch.dtype) -> GraphLoraModel:
    """An untrained adapter in the middle third of a model."""
    transformer = load_transformer(model_id, dtype=dtype, device=device)
    identity = model_identity(transformer)
    start, end = default_block_range(identity["num_layers"])
    names = NameFeatures(identity["joint_attention_dim"])
    names.add(WORDS, torch.randn(len(WORDS), identity["joint_attention_dim"]))
    config = AdapterConfig(
        block_start=start,
        block_end=end,
        lora_rank=16,
        encoder={"kind": "native"},
        base=identity,
        max_sequence_length=TEXT_TOKENS,
    )
    return build_model(transformer=transformer, config=config, name_features=names).to(device)


def make_batch(model: GraphLoraModel, *, count: int, side: int, device: torch.device) -> Batch:
    """``count`` examples of side x side latents."""
    config = model.flux.transformer.config

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    return Batch(
        graphs=(TRUE,) * count,
        latents=draw(count, 16, side, side),
        noise=draw(count, 16, side, side),
        sigma=torch.rand(count, device=device),
        encoder_hidden_states=draw(count, TEXT_TOKENS, config.joint_attention_dim),
        pooled_projections=draw(count, config.pooled_projection_dim),
    )


def ranked(branches: Branches) -> Tensor:
    """The flow-matching loss and the logistic ranking loss."""
    form = RankingForm(temperature=FlowRanker.temperature, ceiling=FlowRanker.ceiling)
    positive, negative = FlowRanker().costs(branches, [])
    paired = torch.ones_like(positive, dtype=torch.bool)
    return branches.errors[0].mean() + 0.1 * form.loss(positive, negative, paired)


def seconds(step: Callable[[], Tensor], model: GraphLoraModel, *, repeats: int) -> float:
    """Median time of forward and backward, after two that do not count."""
    device = next(model.parameters()).device
    times = []
    for _ in range(2 + repeats):
        model.zero_grad()
        start = time.perf_counter()
        with attention_kernel(device):
            step().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> int:
    """Run the benchmark; prints one JSON line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model-id", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--latent-side", type=int, default=16, help="height of the latents")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    device = torch.device(given.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[given.dtype]
    torch.manual_seed(0)
    model = make_model(given.model_id, device=device, dtype=dtype)
    objective = FlowMatchingObjective(
        model,
        dtype=dtype,
        guidance=1.0 if model.flux.transformer.config.guidance_embeds else None,
        gradient_checkpointing=False,
    )
    batch = make_batch(model, count=given.batch_size, side=given.latent_side, device=device)
    false = [FALSE] * given.batch_size
    base = model.flux.transformer
    layers, singles = len(base.transformer_blocks), len(base.single_transformer_blocks)
    frozen, rest = model.flux.block_start, 3 * (layers + singles - model.flux.block_start)
    width, pooled = base.config.joint_attention_dim, base.config.pooled_projection_dim
    concepts = Concepts(
        states=torch.randn(given.batch_size, 3, width, device=device),
        pooled=torch.zeros(given.batch_size, pooled, device=device),
        blocks=default_concept_blocks(layers),
    )
    # An untrained adapter is the identity, but its arithmetic is that of a trained one.
    ways: list[tuple[str, float, Callable[[], Tensor]]] = [
        ("plain", 1.0, lambda: objective(batch, [batch.graphs])[0].mean()),
        ("saliency looks on", 1.0, lambda: ranked_alone(objective, batch, concepts)),
    ]
    for count in given.negatives:
        floor = (frozen + (1 + count) * rest) / (frozen + rest)

        def together(count: int = count) -> Tensor:
            return ranked(objective.branches(batch, [false] * count))

        def apart(count: int = count) -> Tensor:
            errors = [objective(batch, [g])[0] for g in [batch.graphs, *([false] * count)]]
            return torch.stack(errors).mean()

        ways += [
            (f"{count} negatives", floor, together),
            (f"{count} negatives, prefix each", 1.0 + count, apart),
        ]
    plain = 0.0
    for name, floor, step in ways:
        took = seconds(step, model, repeats=given.repeats)
        plain = plain or took
        row = {"way": name, "seconds": took, "plain_steps": took / plain, "counted": floor}
        shared = {"model": given.model_id, "device": str(device), "dtype": given.dtype}
        print(json.dumps({**row, **shared, "batch_size": given.batch_size}), flush=True)
    return 0


def ranked_alone(objective: FlowMatchingObjective, batch: Batch, concepts: Concepts) -> Tensor:
    """The flow-matching loss while concepts look on, whose maps nothing else reads."""
    branches = objective.branches(batch, [], concepts=concepts)
    assert branches.maps is not None
    return branches.errors[0].mean() + 0.0 * branches.maps.mean()


if __name__ == "__main__":
    sys.exit(main())
