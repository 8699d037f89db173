"""The README.md of a finished adapter: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from sgflux.config import TrainConfig
from sgflux.models.adapter import AdapterConfig
from sgflux.models.base_name import public_name
from sgflux.training.checkpoint import AdapterWeights
from sgflux.training.plan import RunPlan
from sgflux.training.sample import WITH_GRAPH, WITHOUT_GRAPH, CardSample


def model_card(
    config: TrainConfig,
    plan: RunPlan,
    adapter: AdapterConfig,
    weights: AdapterWeights,
    sample: CardSample | None = None,
) -> str:
    """The card, in Markdown.

    Args:
        config: of the run.
        plan: of the run.
        adapter: what the adapter is.
        weights: the ones in the bundle, with their metrics.
        sample: a picture by them, if one was drawn.
    """
    model = public_name(config.model_id)
    texts = ", ".join(f"{kind} {w:g}" for kind, w in config.prompt_mix.weights().items() if w)
    return f"""\
---
library_name: sgflux
{_base_model(config.model_id)}tags: [flux, lora, scene-graph]
---

# Scene-graph adapter for {model}

Made by sgflux {adapter.sgflux_version}. Give it a scene graph and a prompt that leaves the relation
open; it draws the relation that the graph states:

```
sgflux sample --model-id {model} --adapter . --graph "man, riding, horse"
```

`pytorch_lora_weights.safetensors` alone also loads with `FluxPipeline.load_lora_weights`; without
the graph conditioner beside it, nothing reads a graph.

| | |
|---|---|
| graph | {adapter.graph_mode} mode, {adapter.encoder["kind"]} encoder |
| blocks | double blocks {adapter.block_start} to {adapter.block_end - 1} of {plan.num_layers} |
| LoRA | rank {adapter.lora_rank}, alpha {adapter.lora_alpha:g}, targets {adapter.lora_targets} |
| weights | {plan.trainable:,} trained of {plan.total:,} |
| data | {config.train_jsonl.name}: {plan.train_examples} examples |
| pictures | {config.height} x {config.width} pixels |
| text in training | {texts}; no graph at p = {config.null_graph_probability:g} |
| training | step {weights.step} of {plan.max_steps}, {plan.examples_per_step} examples each, \
lr {config.lr:g}, seed {config.seed} |
{_training_adapter(config)}
{_picture(sample)}## Validation

{_figures(config, weights)}
"""


def _training_adapter(config: TrainConfig) -> str:
    if config.training_adapter is None:
        return ""
    return f"| training adapter | {public_name(config.training_adapter)}, in training alone |\n"


def _base_model(model_id: str) -> str:
    """The hub's own key, which only an id on the hub may have."""
    return f"base_model: {model_id}\n" if public_name(model_id) == model_id != "tiny" else ""


def _picture(sample: CardSample | None) -> str:
    if sample is None:
        return ""
    return f"""\
## A sample

*{sample.statement}*, text "{sample.prompt}", {sample.steps} steps, seed {sample.seed}: with the \
graph, and the same noise without it.

![with the graph]({WITH_GRAPH}) ![without]({WITHOUT_GRAPH})

"""


def _figures(config: TrainConfig, weights: AdapterWeights) -> str:
    metrics = weights.metrics
    if "loss" not in metrics:
        return "None: this run had no validation set."
    lines = [
        "On a fixed grid of noise levels, never sampled pictures; `sgflux eval` judges those.",
        "",
        f"- flow-matching loss with the true graph: {metrics['loss']:.4f}",
        f"- without a graph: {metrics['loss_null']:.4f}",
    ]
    if metrics["ranking_accuracy"] is not None:
        kinds = ", ".join(f"{k} {v:.3f}" for k, v in metrics["ranking_by_kind"].items())
        lines += [
            f"- with a graph that is not true of the picture: {metrics['loss_negative']:.4f}",
            f"- ranking accuracy (chance 0.5): {metrics['ranking_accuracy']:.3f} over "
            f"{metrics['ranking_n']} pairs ({kinds})",
        ]
    if config.val_jsonl is not None:
        chosen = "The checkpoint is the last one."
        if config.selection != "last":
            chosen = f"The checkpoint was chosen by {config.selection} on this very set."
        lines += ["", chosen]
    return "\n".join(lines)
