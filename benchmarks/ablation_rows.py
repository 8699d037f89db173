"""Recipes that the ablation compares, each of which changes one thing in another one.

Each recipe has the demo's settings (blocks, learning rates), changed by the settings here.
`published` is the recipe of the earlier training script, `plain` is flow matching with neutral text
alone, and `words` has the default losses. The recipes of the tables in docs/ablation.md that are
not here are those of the commits that the page names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        graph_scale: Graph scale of its pictures; None: :data:`ablation_plan.GRAPH_SCALE`. A recipe
            that learns the scale in training draws at 1.
    """

    name: str
    what: str
    over: str | None = "plain"
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 1.0
    graph_scale: float | None = None


_RELATIONAL = {"neutral": 0.0, "relational": 1.0, "empty": 0.0}
_MIDDLE = {"block_start": None, "block_end": None}
_FLOW = {"lambda_rel_rank": 0.1, "ranker": "flow"}
_TWINS = {"role_swap": 1.0, "predicate": 1.0, "moved_twin": 1.0}
_WORDS = {"lambda_words": 20.0}
_LAYOUT = {**_WORDS, "lambda_layout": 1.0}
_BOXES = {"read_boxes": True}
_PLACES = {**_BOXES, "box_positions": True}

PLAIN = "plain"
"""The row whose wall time all have in the second budget."""

RECIPES = (
    Recipe(
        "published",
        "relational text, LoRA on the image stream, frozen encoder, middle third of the blocks",
        over=None,
        settings={
            **_MIDDLE,
            "freeze_graph_encoder": True,
            "prompt_mix": _RELATIONAL,
            "lora_targets": "image",
        },
        cost=0.7,
    ),
    Recipe(
        PLAIN,
        "published + neutral text, LoRA on both streams, trained encoder, the demo's blocks",
        over="published",
    ),
    Recipe("words", "plain + the base told in words as a teacher", losses=_WORDS, cost=1.5),
    Recipe(
        "words-middle",
        "words + the middle third of the blocks",
        over="words",
        settings=_MIDDLE,
        losses=_WORDS,
        cost=1.1,
    ),
    Recipe(
        "words-unordered",
        "words + triples without numbers",
        over="words",
        settings={"number_triples": False},
        losses=_WORDS,
        cost=1.5,
    ),
    Recipe(
        "words+scale",
        "words + the scale of the words in training",
        over="words",
        losses={**_WORDS, "words_scale": 1.5},
        cost=1.9,
        graph_scale=1.0,
    ),
    Recipe(
        "words+data",
        "words+scale + the scale in the flow-matching error as well",
        over="words+scale",
        settings={"flow_scale": 1.5},
        losses={**_WORDS, "words_scale": 1.5},
        cost=2.3,
        graph_scale=1.0,
    ),
    Recipe(
        "words+flow",
        "words + ranking by the model's own error",
        over="words",
        losses={**_WORDS, **_FLOW},
        cost=2.2,
    ),
    Recipe(
        "words+twins",
        "words+flow + statements moved to twins as negatives",
        over="words+flow",
        losses={**_WORDS, **_FLOW, "negatives": _TWINS},
        cost=2.2,
    ),
    Recipe(
        "words+wide",
        "words + an encoder of twice the width and four rounds",
        over="words",
        settings={"graph_encoder_dim": 512, "graph_encoder_layers": 4},
        losses=_WORDS,
        cost=1.7,
    ),
    Recipe(
        "words+empty",
        "words + a third of the texts left out",
        over="words",
        settings={"prompt_mix": {"neutral": 2.0, "relational": 0.0, "empty": 1.0}},
        losses=_WORDS,
        cost=1.5,
    ),
    Recipe(
        "boxes",
        "words + boxes that the encoder reads, and their predictor",
        over="words",
        settings=_BOXES,
        losses=_LAYOUT,
        cost=1.7,
    ),
    Recipe(
        "places",
        "boxes + the places of the boxes for the tokens",
        over="boxes",
        settings=_PLACES,
        losses=_LAYOUT,
        cost=1.7,
    ),
    Recipe(
        "attention",
        "places + attention limited to the boxes",
        over="places",
        settings={**_PLACES, "box_attention": True},
        losses=_LAYOUT,
        cost=1.8,
    ),
)
