"""What the ablation compares: recipes that add one thing at a time, as settings of a training run.

Each recipe is what the demo trains with (blocks, learning rates), its triples not numbered, changed
by the settings here. `published` is the recipe that the earlier training script had, the next four
add one thing each up to `plain`: flow matching with neutral text and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """One row.

    Attributes:
        name: of its folder and its line in the table.
        what: what it has that the recipe named first has not.
        over: the recipe that it is compared with; None: it is where everything begins.
        settings: of :class:`sgflux.settings.training.TrainConfig`, beside the shared ones.
        losses: of :class:`sgflux.settings.losses.LossConfig`.
        cost: of a step, in steps of the recipe ``plain``; about, for the estimate of the whole.
        classifier: the kind that it reads, if it reads one.
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
        """Whether the model's own confusions are measured again and again."""
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
