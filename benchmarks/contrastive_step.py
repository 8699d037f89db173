"""What a contrastive step costs beside a plain one: forward and backward, without the optimizer.

    python benchmarks/contrastive_step.py --out benchmarks/results/contrastive_step.json

For each way: the median of the seconds of a step, and how many plain steps that is. The ways take
turns, so that a machine that is busy in between slows down all of them.
``K negatives`` runs the true graphs and K corrupted ones as one batch behind one prefix, as
training does; ``K negatives, a forward each`` is a whole forward for each, for comparison.
``counted`` is what the arithmetic says, (prefix + (1 + K) * rest) / (prefix + rest), in blocks,
where a block with a backward pass counts as three forwards.

The model is the bundled one unless another is named; latents and text features are noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import AdapterConfig, GraphLoraModel, build_model
from sgflux.models.backbone import default_block_range, load_transformer, model_identity
from sgflux.models.graph_encoder import NameFeatures, graph_names
from sgflux.models.saliency import default_concept_blocks
from sgflux.training.batches import Batch
from sgflux.training.losses import RankingForm
from sgflux.training.objective import Concepts, FlowMatchingObjective, attention_kernel
from sgflux.training.rankers import Branches, FlowRanker

TRUE, FALSE = SceneGraph.parse("man, riding, horse"), SceneGraph.parse("horse, riding, man")
TEXT_TOKENS = 32


def make_model(model_id: str, *, device: torch.device, dtype: torch.dtype) -> GraphLoraModel:
    """An untrained adapter in the middle third of a model."""
    transformer = load_transformer(model_id, dtype=dtype, device=device)
    identity = model_identity(transformer)
    start, end = default_block_range(identity["num_layers"])
    names = NameFeatures(identity["joint_attention_dim"])
    words = graph_names([TRUE, FALSE])
    names.add(words, torch.randn(len(words), identity["joint_attention_dim"]))
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


def seconds(
    steps: Sequence[Callable[[], Tensor]], model: GraphLoraModel, *, repeats: int
) -> list[float]:
    """Median time of forward and backward of each, after one round that does not count."""
    device = next(model.parameters()).device
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(1 + repeats):
        for step, own in zip(steps, times, strict=True):
            model.zero_grad()
            start = time.perf_counter()
            with attention_kernel(device):
                step().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


def main() -> int:
    """Run the benchmark; prints a table, and writes it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model-id", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--latent-side", type=int, default=16, help="height of the latents")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a .json file to write")
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
        ("concepts look on", 1.0, lambda: ranked_alone(objective, batch, concepts)),
    ]
    for count in given.negatives:
        floor = (frozen + (1 + count) * rest) / (frozen + rest)

        def together(count: int = count) -> Tensor:
            return ranked(objective.branches(batch, [false] * count))

        def apart(count: int = count) -> Tensor:
            errors = [objective(batch, [g])[0] for g in [batch.graphs, *([false] * count)]]
            return torch.stack(errors).mean()

        ways += [
            (f"{_negatives(count)}", floor, together),
            (f"{_negatives(count)}, a forward each", 1.0 + count, apart),
        ]
    times = seconds([step for *_, step in ways], model, repeats=given.repeats)
    rows = [
        {
            "way": name,
            "seconds": round(took, 4),
            "plain_steps": round(took / times[0], 3),
            "counted": round(counted, 3),
        }
        for (name, counted, _), took in zip(ways, times, strict=True)
    ]
    print(f"| {'step':27} | plain steps | counted |\n|{'---|' * 3}")
    for row in rows:
        print(f"| {row['way']:27} | {row['plain_steps']:11.2f} | {row['counted']:7.2f} |")
    if given.out is not None:
        settings = {name: value for name, value in vars(given).items() if name != "out"}
        content = {
            "settings": settings,
            "blocks": {"all": layers + singles, "before the first adapted one": frozen},
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "rows": rows,
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _negatives(count: int) -> str:
    return "1 negative" if count == 1 else f"{count} negatives"


def ranked_alone(objective: FlowMatchingObjective, batch: Batch, concepts: Concepts) -> Tensor:
    """The flow-matching loss while concepts look on, whose maps nothing else reads."""
    branches = objective.branches(batch, [], concepts=concepts)
    assert branches.maps is not None
    return branches.errors[0].mean() + 0.0 * branches.maps.mean()


if __name__ == "__main__":
    sys.exit(main())
