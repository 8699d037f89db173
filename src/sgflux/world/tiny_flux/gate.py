"""The gate: figures that a base must reach before adapters are trained on it.

An adapter can only teach the relation that its base is able to draw. So the base is asked, by
caption alone, for one relation, for two at once, and for none (a neutral caption); the bundled
world's judge reads the pictures. Two relations are stated in no particular order, as a user may
write them; beside the gate they are also measured in reading order, as most of its training was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgflux.data.pictures import contact_sheet, save_picture
from sgflux.data.prompts import PromptKind, prompts_for_graph
from sgflux.evaluation.judges.judge import read_pictures
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.metrics import macro_estimate
from sgflux.files.writing import replace_file
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.world_models import MeasureBaseConfig
from sgflux.world.chance import random_drawing
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, sample_scene

_SHOWN = 4
TARGETS = {"objects": 0.95, "relation": 0.90, "two_triples": 0.80}


@dataclass(frozen=True)
class _Drawn:
    """What the judge sees in one set of pictures.

    Attributes:
        objects: Share of the pictures with every named object.
        right: Whether every relation of a picture is read as its graph states, (N,) bool.
    """

    objects: float
    right: np.ndarray


def _interval(drawn: _Drawn, predicates: Sequence[str] | None = None) -> list[float]:
    """Return the 95 % interval of the share of right pictures, a mean over any predicates."""
    groups = ["all"] * len(drawn.right) if predicates is None else predicates
    right = drawn.right.astype(float).tolist()
    ends = macro_estimate(list(zip(right, groups, range(len(right)), strict=True))).overall.ci95
    assert ends is not None, "there are pictures"
    return list(ends)


def measure_base(config: MeasureBaseConfig) -> dict[str, object]:
    """Sample and judge pictures; print, write and return the gate's figures."""
    pipeline = SceneGraphFluxPipeline.from_pretrained(config.model_id)
    judge = WorldJudgeAdapter.load()
    rng = np.random.default_rng([config.seed, 0x6A7E])
    singles = [
        sample_scene(rng, predicate=predicate).graph()
        for predicate in PREDICATES
        for _ in range(config.per_predicate)
    ]
    scenes = [sample_scene(rng, triples=2) for _ in range(config.two_triples)]
    doubles = [scene.graph() for scene in scenes]
    ordered = [scene.in_reading_order() for scene in scenes]
    stated = np.repeat(np.arange(len(PREDICATES)), config.per_predicate)

    def draw(graphs: list[SceneGraph], kind: PromptKind, steps: int) -> tuple[np.ndarray, _Drawn]:
        prompts = [prompts_for_graph(graph, kind) for graph in graphs]
        seeds = [config.seed * 100_000 + index for index in range(len(graphs))]
        parts = []
        for start in range(0, len(graphs), config.batch_size):
            window = slice(start, start + config.batch_size)
            parts.append(pipeline.sample_batch(None, prompts[window], seeds[window], steps=steps))
        pictures = np.concatenate(parts)
        readings = read_pictures(judge, pictures, [graph.triples() for graph in graphs])
        judged = list(zip(readings, graphs, strict=True))
        return pictures, _Drawn(
            objects=float(np.mean([reading.has_all(graph.objects) for reading, graph in judged])),
            right=np.array(
                [all(map(reading.is_right, graph.triples())) for reading, graph in judged]
            ),
        )

    chance = random_drawing(judge.identity.name)
    assert chance is not None, "it was measured with this judge"
    figures: dict[str, object] = {"model": config.model_id, "objects": list(OBJECT_NAMES)}
    for steps in config.steps:
        shown, relational = draw(singles, "relational", steps)
        _, neutral = draw(singles, "neutral", steps)
        _, two = draw(doubles, "relational", steps)
        _, two_ordered = draw(ordered, "relational", steps)
        per_predicate = {
            predicate: float(relational.right[stated == index].mean())
            for index, predicate in enumerate(PREDICATES)
        }
        figures[f"{steps}_steps"] = {
            "n": len(singles),
            "objects": relational.objects,
            "relation": float(np.mean(list(per_predicate.values()))),
            "two_triples": float(two.right.mean()),
            "two_triples_objects": two.objects,
            "two_triples_n": len(doubles),
            "two_triples_in_reading_order": float(two_ordered.right.mean()),
            "neutral_relation": float(neutral.right.mean()),
            "neutral_objects": neutral.objects,
            "chance": chance["value"],
            "ci95": {
                "relation": _interval(relational, [PREDICATES[index] for index in stated]),
                "two_triples": _interval(two),
                "two_triples_in_reading_order": _interval(two_ordered),
                "neutral_relation": _interval(neutral),
            },
            "per_predicate": per_predicate,
        }
    final = figures[f"{config.steps[-1]}_steps"]
    assert isinstance(final, dict)
    figures["gate"] = {
        name: {"value": final[name], "target": target, "passed": final[name] >= target}
        for name, target in TARGETS.items()
    }
    if config.figure is not None:
        chosen = [i for i in range(len(singles)) if i % config.per_predicate < _SHOWN]
        captions = [prompts_for_graph(singles[i], "relational") for i in chosen]
        sheet = contact_sheet([shown[i] for i in chosen], captions, columns=3 * _SHOWN, scale=2)
        save_picture(config.figure, sheet, {"model": config.model_id, "steps": config.steps[-1]})
    replace_file(config.output, json.dumps(figures, indent=2) + "\n")
    return figures
