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
_WORDS = {"lambda_words": 20.0}
_FLOW = {"lambda_rel_rank": 0.1, "ranker": "flow"}
_LAYOUT = {**_WORDS, "lambda_layout": 1.0}
_BOXES = {"read_boxes": True, "boxes_dropout": 0.15, "boxes_jitter": 0.0}
_ATTENTION = {**_BOXES, "box_attention": True}
_MAP = {**_ATTENTION, "box_map": True}
_SCALE = {**_MAP, "flow_scale": 2.0, "flow_scale_from": 0.5}
_BAND = {"t_min": 0.1, "band_share": 0.5, "band_min": 0.15, "band_max": 0.65}
_WHOLE = {"block_end": 8, "lora_rank": 64, "lora_alpha": 64.0, "graph_encoder_dim": 160}

PLAIN = "plain"
"""The row whose wall time all have in the second budget."""

RECIPES = (
    Recipe(
        "published",
        "relational text, LoRA on the image stream, frozen encoder, middle third of the blocks",
        over=None,
        settings={
            "block_start": None,
            "block_end": None,
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
        "words+scale",
        "words + the scale of the words in training",
        over="words",
        losses={**_WORDS, "words_scale": 1.5},
        cost=1.9,
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
        settings={**_BOXES, "box_positions": True},
        losses=_LAYOUT,
        cost=1.7,
    ),
    Recipe(
        "attention",
        "boxes + attention limited to the boxes",
        over="boxes",
        settings=_ATTENTION,
        losses=_LAYOUT,
        cost=1.8,
    ),
    Recipe(
        "map",
        "attention + which part of which object an image token shows",
        over="attention",
        settings=_MAP,
        losses=_LAYOUT,
        cost=1.8,
    ),
    Recipe(
        "map+scale",
        "map + a scale in the flow-matching error",
        over="map",
        settings=_SCALE,
        losses=_LAYOUT,
        cost=1.8,
        graph_scale=1.0,
    ),
    Recipe(
        "map+band",
        "map+scale + half of the examples at low noise",
        over="map+scale",
        settings={**_SCALE, **_BAND},
        losses=_LAYOUT,
        cost=1.8,
        graph_scale=1.0,
    ),
    Recipe(
        "bundled",
        "map+band + all blocks, rank 64, a narrower encoder, a weaker teacher",
        over="map+band",
        settings={**_SCALE, **_BAND, **_WHOLE},
        losses={**_LAYOUT, "lambda_words": 2.0, "layout_graphs": 48},
        cost=2.2,
        graph_scale=1.0,
    ),
)
