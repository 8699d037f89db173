"""An evaluation folder as ``sgflux eval`` writes it, from the world's own brush in a second."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgflux.data.examples import read_examples
from sgflux.data.images import load_image
from sgflux.evaluation.arms import Arm, PictureRequest
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.judges.judge import NONE, Images, JudgeIdentity, Reading, pair_of
from sgflux.evaluation.judges.world import reading_of
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.world.dataset import write_world
from sgflux.world.scenes import PREDICATES, render_relationships

CLASSES = (*PREDICATES, NONE)


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


class Remembering:
    """Generator and judge in one: draws the graph most of the time, and remembers it."""

    name = "remembering"
    identity = JudgeIdentity("remembering", classes=CLASSES)

    def __init__(self) -> None:
        self.drawn: dict[str, list[tuple[str, str, str]]] = {}

    def remember(self, image: np.ndarray, graph: SceneGraph) -> None:
        triples = [(t.subject, t.predicate, t.object) for t in graph.triples()]
        self.drawn[_digest(image)] = triples

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        return np.stack([self._picture(request) for request in requests])

    def _picture(self, request: PictureRequest) -> np.ndarray:
        rng = np.random.default_rng([request.seed, list(Arm).index(request.arm)])
        stated = request.graph or (None if request.text.is_null else request.text)
        if request.arm is Arm.CONTRADICTION and rng.random() < 0.4:
            stated = request.text
        if stated is None or rng.random() < 0.25:
            names = request.item.graph.objects
            predicate = PREDICATES[int(rng.integers(len(PREDICATES)))]
            stated = SceneGraph(objects=names[:2], relationships=((0, predicate, 1),))
        triples = [(t.subject, t.predicate, t.object) for t in stated.triples()]
        image = render_relationships(rng, triples, resolution=64).image
        self.remember(image, stated)
        return image

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {"generator": self.name, "arm": str(request.arm), "seed": request.seed}

    def check(self, graphs: Iterable[SceneGraph]) -> None:
        """Knows everything."""

    def covers(self, predicate: str) -> bool:
        return predicate in PREDICATES

    def read(self, images: Images, statements: Sequence[Sequence[Triple]]) -> list[Reading]:
        return [
            reading_of(
                own,
                scores={pair: self._scores(image, pair) for pair in map(pair_of, own)},
                present=frozenset(n for s, _, o in self.drawn[_digest(image)] for n in (s, o)),
            )
            for image, own in zip(images, statements, strict=True)
        ]

    def _scores(self, image: np.ndarray, pair: tuple[str, str]) -> np.ndarray:
        scores = np.full(len(CLASSES), -9.0, np.float32)
        shown = {(s, o): p for s, p, o in self.drawn[_digest(image)]}
        scores[CLASSES.index(shown.get(pair, NONE))] = -0.01
        return scores


def make_evaluation(folder: Path, *, per_class: int = 2) -> Path:
    """Data, evaluation and metrics below ``folder``; returns the evaluation's folder."""
    data = folder / "data"
    write_world(
        data,
        train_per_class=0,
        val_per_class=0,
        test_per_class=per_class,
        triples="1,2",
        hold_out_combinations=20,
    )
    both = Remembering()
    for example in read_examples(data / "test.jsonl"):
        both.remember(np.asarray(load_image(data / example.image_rel_path)), example.graph)
    config = EvalConfig.from_flat(data=data / "test.jsonl", output_dir=folder / "evaluation")
    evaluate(
        config,
        generator=both,
        judge=both,
        command=["sgflux", "eval", "<test>"],
        show_progress=False,
    )
    path = config.output_dir / "evaluation_results.json"
    results = json.loads(path.read_text())
    share = {"value": 0.871, "ci95": [0.842, 0.899], "n": 400, "clusters": 100}
    results["ranking_accuracy"] = {
        **share,
        "by_kind": {"role_swap": share},
        "error_graph": 0.963,
        "error_null_graph": 0.845,
        "errors": {
            name: {"value": value, "ci95": [value - 0.02, value + 0.02], "n": 400, "clusters": 100}
            for name, value in (
                ("graph", 0.963),
                ("negative_graph", 1.158),
                ("null_graph", 0.845),
            )
        },
        "gap": {"null_graph": {"value": -0.118, "ci95": [-0.139, -0.098], "n": 400}},
    }
    results["prompts_cut"] = {
        "limit": 24,
        "arms": {
            "graph": {"pictures": 4, "cut": 0},
            "base_relational": {"pictures": 4, "cut": 3, "example": "a photo of …"},
        },
    }
    path.write_text(json.dumps(results))
    write_metrics(folder / "metrics.jsonl")
    return config.output_dir


def forget_lines(folder: Path) -> None:
    """Let the results be of an earlier version, which did not know whether lines were changed."""
    path = folder / "evaluation_results.json"
    results = json.loads(path.read_text())
    del results["picture_results"]
    path.write_text(json.dumps(results))


def write_metrics(path: Path) -> None:
    """What a training writes, with curves that fall and a ranking that rises."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for step in range(10, 1501, 10):
        loss = 0.3 + 0.15 * math.exp(-step / 300)
        rows.append({"kind": "train", "step": step, "loss": loss * (1 + 0.12 * rng.normal())})
        if step % 150 == 0:
            rank = 0.5 + 0.4 * (1 - math.exp(-step / 500))
            rows.append(
                {
                    "kind": "validation",
                    "step": step,
                    "loss": loss,
                    "loss_null": loss + 0.015,
                    "loss_negative": loss + 0.04 * (1 - math.exp(-step / 500)),
                    "ranking_accuracy": rank,
                    "ranking_by_kind": {"role_swap": rank - 0.07, "predicate": rank + 0.05},
                }
            )
            shares = {"obeyed": rank, "contradicted": 0.9 - rank, "not_found": 0.1}
            rows.append({"kind": "samples", "step": step, **shares})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
