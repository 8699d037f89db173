"""The README.md of a finished adapter: what it is, what it was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgflux.bases.name import BaseName, public_name
from sgflux.models.adapter import AdapterConfig
from sgflux.models.card_data import card_data, license_of
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.data import DataSettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.start import StartSettings
from sgflux.settings.validation import SelectBy
from sgflux.training.card.sample import WITH_GRAPH, WITHOUT_GRAPH, CardSample
from sgflux.training.checkpoints.checkpoint import AdapterWeights
from sgflux.training.planning.plan import RunPlan


def model_card(
    plan: RunPlan,
    adapter: AdapterConfig,
    weights: AdapterWeights,
    sample: CardSample | None = None,
    *,
    model: ModelSource,
    data: DataSettings,
    pictures: PictureSettings,
    conditions: ConditionSettings,
    start: StartSettings,
    lr: float,
    seed: int,
    lambda_words: float,
    selection: SelectBy,
) -> str:
    """The card, in Markdown.

    Args:
        plan: Plan of the run.
        adapter: Configuration of the adapter.
        weights: Weights in the bundle, with their metrics.
        sample: Picture by these weights, if one was drawn.
        model: Base model.
        data: Files of the run.
        pictures: Settings of the pictures.
        conditions: Texts and graphs that the pictures came with.
        start: Adapter that the run started from, and its training adapter.
        lr: Peak learning rate.
        seed: Random seed of the run.
        lambda_words: Weight of the distillation from words.
        selection: Way in which the weights were chosen.
    """
    base = BaseName.of(model.name, model.revision)
    named = "" if base.model_id is not None else f"--model-id {base.name} "
    texts = ", ".join(f"{kind} {w:g}" for kind, w in conditions.prompt_mix.weights().items() if w)
    files = f"{data.train_jsonl.name}: {plan.train_examples} examples"
    if data.val_jsonl is not None:
        files += f"; validation on {data.val_jsonl.name}"
    size = " x ".join(map(str, pictures.size)) + " pixels"
    if data.aspect_buckets:
        size = f"about {size}, in aspect buckets"
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
| data | {files} |
| pictures | {size} |
| text in training | {texts}; no graph at p = {conditions.null_graph_probability:g} |
| training | step {weights.step} of {plan.max_steps}, {plan.examples_per_step} examples each, \
lr {lr:g}, seed {seed} |
{_started_from(start)}
{_picture(sample)}## Validation

{_figures(weights.metrics, lambda_words=lambda_words, selection=selection)}
"""


def _licence(base: BaseName) -> str:
    known = license_of(base)
    if known is None:
        return "not stated; the base's and the data's licences apply"
    return f"that of the base, {known}; the data's licence applies as well"


def _started_from(start: StartSettings) -> str:
    rows = ""
    if start.init_from is not None:
        rows += f"| started from | {public_name(start.init_from)} |\n"
    if start.training_adapter is not None:
        name = public_name(start.training_adapter)
        rows += f"| training adapter | {name}, in training alone |\n"
    return rows


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


def _figures(metrics: Mapping[str, Any], *, lambda_words: float, selection: SelectBy) -> str:
    if "loss" not in metrics:
        return "None: this run had no validation set."
    lines = [
        "On a fixed grid of noise levels, never sampled pictures; `sgflux eval` judges those.",
        "",
        f"- flow-matching loss with the true graph: {metrics['loss']:.4f}",
        f"- without a graph: {metrics['loss_null']:.4f}",
    ]
    if lambda_words:
        lines += [
            "",
            "The loss with the graph can be the higher one, and is no sign of worse pictures: this "
            "adapter also learned from the base itself, prompted with the relation in text "
            f"(weight {lambda_words:g}). That teacher's velocity is guided and made "
            "for few steps; the data's, against which the flow-matching loss is taken, is neither.",
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
    chosen = "The checkpoint is the last one."
    if selection != "last":
        chosen = f"The checkpoint was chosen by {selection} on this very set."
    return "\n".join([*lines, "", chosen])
