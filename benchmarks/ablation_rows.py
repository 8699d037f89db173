"""What the ablation compares: recipes that add one thing at a time, as settings of a training run.

Each recipe is what the demo trains with, changed by the settings here. `published` is the recipe
that the earlier training script had; `plain` is what `sgflux train` does unless it is told more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CLASSIFIERS = ("latent", "saliency")


@dataclass(frozen=True)
class Recipe:
    """One row.

    Attributes:
        name: of its folder and its line in the table.
        what: what it has that its neighbour has not.
        settings: of :class:`sgflux.config.TrainConfig`, beside the shared ones.
        losses: of :class:`sgflux.loss_config.LossConfig`.
        classifier: the kind that its ranker reads, if it does.
    """

    name: str
    what: str
    settings: Mapping[str, Any]
    losses: Mapping[str, Any]
    classifier: Literal["latent", "saliency"] | None = None


_RELATIONAL = {"neutral": 0.0, "relational": 1.0, "empty": 0.0}
_FLOW = {"lambda_rel_rank": 0.1, "ranker": "flow"}
_HARD = {"role_swap": 1.0, "predicate": 0.5, "hard_predicate": 1.0}
_SALIENT = {"alpha_gen_rel": 2.0}

PLAIN = "plain"
"""The row that others are compared with, and whose wall time all have in the second budget."""

RECIPES = (
    Recipe(
        PLAIN,
        "neutral text, LoRA on both streams, trained encoder, flow matching alone",
        {},
        {},
    ),
    Recipe(
        "published",
        "relational text only, LoRA on the image stream, frozen encoder",
        {"prompt_mix": _RELATIONAL, "lora_targets": "image", "freeze_graph_encoder": True},
        {},
    ),
    Recipe(
        "neutral-text",
        "published + neutral text",
        {"lora_targets": "image", "freeze_graph_encoder": True},
        {},
    ),
    Recipe(
        "text-stream",
        "neutral-text + LoRA on the text stream",
        {"freeze_graph_encoder": True},
        {},
    ),
    Recipe("flow", "plain + ranking by the model's own error", {}, _FLOW),
    Recipe("flow-margin", "the same with a margin", {}, {**_FLOW, "rel_rank_margin": 0.02}),
    Recipe(
        "flow-infonce",
        "the same against three negatives",
        {},
        {**_FLOW, "negatives_per_example": 3},
    ),
    Recipe(
        "flow-hard", "the same with the model's own confusions", {}, {**_FLOW, "negatives": _HARD}
    ),
    Recipe(
        "latent",
        "plain + ranking by a classifier of latents",
        {},
        {"lambda_rel_rank": 0.1, "ranker": "latent"},
        classifier="latent",
    ),
    Recipe(
        "saliency",
        "plain + ranking by a classifier of concept maps",
        {},
        {"lambda_rel_rank": 0.1, "ranker": "saliency"},
        classifier="saliency",
    ),
    Recipe("gen-rel", "plain + errors weighted by saliency", {}, _SALIENT),
    Recipe(
        "gen-rel-boxes",
        "plain + errors weighted by the boxes",
        {},
        {**_SALIENT, "gen_rel_from": "boxes"},
    ),
    Recipe("anchor", "plain + the base's velocity as an anchor", {}, {"lambda_anchor": 0.1}),
    Recipe("flow+gen-rel", "both", {}, {**_FLOW, **_SALIENT}),
    Recipe(
        "flow+latent-hard",
        "flow, with hard negatives from the latent classifier",
        {},
        {**_FLOW, "negatives": _HARD, "hard_negatives_from": "classifier"},
        classifier="latent",
    ),
)
