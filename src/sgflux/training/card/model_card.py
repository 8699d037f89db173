"""The README.md of a finished adapter: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgflux.bases.name import BaseName, public_name
from sgflux.models.adapter import AdapterConfig
from sgflux.models.card_data import card_data, license_of
from sgflux.settings.training import TrainConfig
from sgflux.training.card.sample import WITH_GRAPH, WITHOUT_GRAPH, CardSample
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.planning.plan import RunPlan


def model_card(
    config: TrainConfig,
    plan: RunPlan,
    adapter: AdapterConfig,
    weights: AdapterWeights,
    sample: CardSample | None = None,
) -> str:
    """The card, in Markdown.

    Args:
        config: Configuration of the run.
        plan: Numbers of the run.
        adapter: Description of the adapter.
        weights: Weights in the bundle, with their metrics.
        sample: Picture by them; None if none was drawn.
    """
    base = BaseName.of(config.model.name, config.model.revision)
    named = "" if base.model_id is not None else f"--model-id {base.name} "
    texts = ", ".join(
        f"{kind} {w:g}" for kind, w in config.conditions.prompt_mix.weights().items() if w
    )
    data = f"{config.data.train_jsonl.name}: {plan.train_examples} examples"
    if config.data.val_jsonl is not None:
        data += f"; validation on {config.data.val_jsonl.name}"
    return f"""\
---
{card_data(base).to_yaml()}
---

# Scene-graph adapter for {base.name}

Made by sgflux {adapter.sgflux_version}. Give it a scene graph and a prompt that leaves the relation
open; it draws the relation that the graph states:

```
sgflux sample {named}--adapter . --graph "man, riding, horse"
```

`pytorch_lora_weights.safetensors` alone also loads with `FluxPipeline.load_lora_weights`; without
the graph conditioner beside it, nothing reads a graph.

| | |
|---|---|
| base | {base.name}{"" if base.revision is None else f" at {base.revision}"} |
| licence | {_licence(base)} |
| graph | {adapter.graph_mode} mode, {adapter.encoder["kind"]} encoder |
| blocks | double blocks {adapter.block_start} to {adapter.block_end - 1} of {plan.num_layers} |
| LoRA | rank {adapter.lora_rank}, alpha {adapter.lora_alpha:g}, targets {adapter.lora_targets} |
| weights | {plan.trainable:,} trained of {plan.total:,} |
| data | {data} |
| pictures | {_size(config)} |
| text in training | {texts}; no graph at p = {config.conditions.null_graph_probability:g} |
| training | step {weights.step} of {plan.max_steps}, {plan.examples_per_step} examples each, \
lr {config.optimizer.lr:g}, seed {config.run.seed} |
{_initial(config)}{_training_adapter(config)}
{_picture(sample)}## Validation

{_figures(config, weights)}
"""


def _licence(base: BaseName) -> str:
    known = license_of(base)
    if known is None:
        return "not stated; the base's and the data's licences apply"
    return f"that of the base, {known}; the data's licence applies as well"


def _initial(config: TrainConfig) -> str:
    if config.start.init_from is None:
        return ""
    return f"| started from | {public_name(config.start.init_from)} |\n"


def _training_adapter(config: TrainConfig) -> str:
    if config.start.training_adapter is None:
        return ""
    return (
        f"| training adapter | {public_name(config.start.training_adapter)}, in training alone |\n"
    )


def _picture(sample: CardSample | None) -> str:
    if sample is None:
        return ""
    return f"""\
## A sample

*{sample.statement}*, text "{sample.prompt}", {sample.steps} steps, seed {sample.seed}: with the \
graph, and the same noise without it.

![with the graph]({WITH_GRAPH}) ![without]({WITHOUT_GRAPH})

"""


def _what_ranking_leaves_out(metrics: Mapping[str, Any]) -> str:
    """How the error under the true graph compares with that without a graph, and why."""
    gap = metrics["loss"] - metrics["loss_null"]
    text = (
        "Ranking accuracy only compares graphs. The error under the true graph is "
        f"{abs(gap):.4f} {'larger' if gap > 0 else 'smaller'} than without a graph"
    )
    if gap <= 0:
        return text + "."
    return text + (
        ": the graph moves the velocity away from the data's, as a guided teacher (--lambda-words) "
        "makes it do. Judge such an adapter by its pictures, not by this error."
    )


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
    if weight := config.losses.words.lambda_words:
        lines += [
            "",
            "The loss with the graph can be the higher one, and is no sign of worse pictures: this "
            "adapter also learned from the base itself, prompted with the relation in text "
            f"(weight {weight:g}). That teacher's velocity is guided and made for few steps; the "
            "data's, against which the flow-matching loss is taken, is neither.",
            "",
        ]
    if metrics["ranking_accuracy"] is not None:
        kinds = ", ".join(f"{k} {v:.3f}" for k, v in metrics["ranking_by_kind"].items())
        lines += [
            f"- with a graph that is not true of the picture: {metrics['loss_negative']:.4f}",
            f"- ranking accuracy (chance 0.5): {metrics['ranking_accuracy']:.3f} over "
            f"{metrics['ranking_n']} pairs ({kinds})",
            "",
            _what_ranking_leaves_out(metrics),
        ]
    if config.data.val_jsonl is not None:
        chosen = "The checkpoint is the last one."
        if config.selection != "last":
            chosen = f"The checkpoint was chosen by {config.selection} on this very set."
        lines += ["", chosen]
    return "\n".join(lines)


def _size(config: TrainConfig) -> str:
    size = " x ".join(map(str, config.pictures.size)) + " pixels"
    return f"about {size}, in aspect buckets" if config.data.aspect_buckets else size
