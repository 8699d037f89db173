"""Recipes that the ablation compares, each of which adds one setting to another one.

Each recipe has the demo's settings (blocks, learning rates) without numbered triples, changed by
the settings here. `published` is the recipe of the earlier training script. The next four add one
setting each and lead to `plain`, which is flow matching with neutral text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        name: Name of its folder and of its line in the table.
        what: Description of what it adds to the recipe that it is compared with.
        over: Name of the recipe that it is compared with; None for the first one.
        settings: Settings of :class:`sgflux.settings.training.TrainConfig` beside the shared ones.
        losses: Settings of :class:`sgflux.settings.losses.LossSettings`.
        cost: Approximate time of a step, in steps of the recipe ``plain``.
        classifier: Kind of the classifier that it reads, if it reads one.
    """

    name: str
    what: str
    over: str | None = "plain"
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0
    classifier: Literal["latent", "saliency"] | None = None

    @property
    def measures_confusion(self) -> bool:
        """Whether the training measures the model's own confusions repeatedly."""
        hard = self.losses.get("negatives", {}).get("hard_predicate", 0)
        return bool(hard) and "hard_negatives_from" not in self.losses


_RELATIONAL = {"neutral": 0.0, "relational": 1.0, "empty": 0.0}
_MIDDLE = {"block_start": None, "block_end": None}
_FROZEN = {**_MIDDLE, "freeze_graph_encoder": True}
_FLOW = {"lambda_rel_rank": 0.1, "ranker": "flow"}
_LATENT = {"lambda_rel_rank": 0.1, "ranker": "latent"}
_HARD = {"role_swap": 1.0, "predicate": 0.5, "hard_predicate": 1.0}
_BOXES = {"alpha_gen_rel": 2.0, "gen_rel_from": "boxes"}
_WORDS = {"lambda_words": 20.0}

PLAIN = "plain"
"""The row whose wall time all have in the second budget."""

RECIPES = (
    Recipe(
        "published",
        "relational text, LoRA on the image stream, frozen encoder, middle third of the blocks",
        over=None,
        settings={**_FROZEN, "prompt_mix": _RELATIONAL, "lora_targets": "image"},
        cost=0.7,
    ),
    Recipe(
        "neutral-text",
        "published + neutral text",
        over="published",
        settings={**_FROZEN, "lora_targets": "image"},
        cost=0.7,
    ),
    Recipe(
        "text-stream",
        "neutral-text + LoRA on the text stream",
        over="neutral-text",
        settings=_FROZEN,
        cost=0.7,
    ),
    Recipe(
        "middle-third",
        "text-stream + trained encoder",
        over="text-stream",
        settings=_MIDDLE,
        cost=0.7,
    ),
    Recipe(
        PLAIN,
        "middle-third + the adapter in the demo's blocks",
        over="middle-third",
    ),
    Recipe("flow", "plain + ranking by the model's own error", losses=_FLOW, cost=1.8),
    Recipe(
        "latent",
        "plain + ranking by a classifier of latents",
        losses=_LATENT,
        cost=1.2,
        classifier="latent",
    ),
    Recipe(
        "saliency",
        "plain + ranking by a classifier of concept maps",
        losses={"lambda_rel_rank": 0.1, "ranker": "saliency"},
        cost=1.6,
        classifier="saliency",
    ),
    Recipe(
        "gen-rel", "plain + errors weighted by saliency", losses={"alpha_gen_rel": 2.0}, cost=1.4
    ),
    Recipe("words", "plain + the base told in words as a teacher", losses=_WORDS, cost=1.5),
    Recipe(
        "words-middle",
        "words in the middle third of the blocks",
        over="words",
        settings=_MIDDLE,
        losses=_WORDS,
        cost=1.1,
    ),
    Recipe(
        "words+flow",
        "words + ranking by the model's own error",
        over="words",
        losses={**_WORDS, **_FLOW},
        cost=2.2,
    ),
    Recipe(
        "words+latent",
        "words + ranking by a classifier of latents",
        over="words",
        losses={**_WORDS, **_LATENT},
        cost=1.7,
        classifier="latent",
    ),
    Recipe(
        "words+boxes",
        "words + errors weighted by the boxes",
        over="words",
        losses={**_WORDS, **_BOXES},
        cost=1.5,
    ),
    Recipe(
        "words+order",
        "words + triples numbered in reading order",
        over="words",
        settings={"number_triples": True},
        losses=_WORDS,
        cost=1.5,
    ),
    Recipe(
        "flow-infonce",
        "flow + three negatives instead of one",
        over="flow",
        losses={**_FLOW, "negatives_per_example": 3},
        cost=3.5,
    ),
    Recipe(
        "flow-hard",
        "flow + the model's own confusions as negatives",
        over="flow",
        losses={**_FLOW, "negatives": _HARD},
        cost=1.9,
    ),
)
