"""What the ablation compares: recipes that add one thing at a time, as settings of a training run.

Each recipe is what the demo trains with (size, steps' lengths, learning rates), changed by the
settings here. `published` is the recipe that the earlier training script had; `plain` is flow
matching with neutral text and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """One row.

    Attributes:
        name: of its folder and its line in the table.
        what: what it has that its neighbour has not.
        settings: of :class:`sgflux.config.TrainConfig`, beside the shared ones.
        losses: of :class:`sgflux.loss_config.LossConfig`.
        cost: of a step, in steps of the recipe ``plain``; about, for the estimate of the whole.
        classifier: the kind that it reads, if it reads one.
    """

    name: str
    what: str
    settings: Mapping[str, Any]
    losses: Mapping[str, Any]
    cost: float = 1.0
    classifier: Literal["latent", "saliency"] | None = None

    @property
    def measures_confusion(self) -> bool:
        """Whether the model's own confusions are measured again and again."""
        hard = self.losses.get("negatives", {}).get("hard_predicate", 0)
        return bool(hard) and "hard_negatives_from" not in self.losses


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
    Recipe("flow", "plain + ranking by the model's own error", {}, _FLOW, cost=1.6),
    Recipe("flow-margin", "flow with a margin", {}, {**_FLOW, "rel_rank_margin": 0.02}, cost=1.6),
    Recipe(
        "flow-infonce",
        "flow against three negatives",
        {},
        {**_FLOW, "negatives_per_example": 3},
        cost=2.9,
    ),
    Recipe(
        "flow-hard",
        "flow with the model's own confusions",
        {},
        {**_FLOW, "negatives": _HARD},
        cost=1.7,
    ),
    Recipe(
        "latent",
        "plain + ranking by a classifier of latents",
        {},
        {"lambda_rel_rank": 0.1, "ranker": "latent"},
        cost=1.2,
        classifier="latent",
    ),
    Recipe(
        "saliency",
        "plain + ranking by a classifier of concept maps",
        {},
        {"lambda_rel_rank": 0.1, "ranker": "saliency"},
        cost=1.6,
        classifier="saliency",
    ),
    Recipe("gen-rel", "plain + errors weighted by saliency", {}, _SALIENT, cost=1.4),
    Recipe(
        "gen-rel-boxes",
        "plain + errors weighted by the boxes",
        {},
        {**_SALIENT, "gen_rel_from": "boxes"},
    ),
    Recipe(
        "anchor", "plain + the base's velocity as an anchor", {}, {"lambda_anchor": 0.1}, cost=2.1
    ),
    Recipe(
        "words", "plain + the base told in words as a teacher", {}, {"lambda_words": 20.0}, cost=1.4
    ),
    Recipe("flow+gen-rel", "flow and gen-rel together", {}, {**_FLOW, **_SALIENT}, cost=2.2),
    Recipe(
        "flow+latent-hard",
        "flow, with hard negatives from the latent classifier",
        {},
        {**_FLOW, "negatives": _HARD, "hard_negatives_from": "classifier"},
        cost=1.6,
        classifier="latent",
    ),
)
