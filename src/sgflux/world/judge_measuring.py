"""How often the bundled judge is right about fresh pictures of every kind of scene.

Every picture comes from ``numpy.random.SeedSequence((seed, JUDGE_KEY, split, index))``. The key is
the judge's own, so no picture is one that the base model or an adapter was trained or evaluated on.
Split 0 is trained on; each kind of scene is measured on a split of its own.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sgflux.files.writing import replace_file
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import Triple
from sgflux.settings.world_models import MeasureJudgeConfig
from sgflux.world.judge import CLASSES, NONE_INDEX, WorldJudge, read_judge, to_judge_images
from sgflux.world.reading import class_index, read_relations
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, WorldScene, has_room, sample_scene
from sgflux.world.shapes import shapes_of

JUDGE_KEY = int.from_bytes(b"judge", "big")
"""The judge's own branch of the seeds."""

_BATCH = 64


@dataclass(frozen=True)
class Kind:
    """One kind of scene.

    Attributes:
        triples: Number of triples.
        twins: Whether two objects have one name.
        split: Split of the seeds on which the judge is measured.
    """

    triples: int
    twins: bool
    split: int


KINDS: dict[str, Kind] = {
    "1": Kind(1, False, 1),
    "2": Kind(2, False, 2),
    "3": Kind(3, False, 3),
    "4": Kind(4, False, 4),
    "2 with twins": Kind(2, True, 5),
    "3 with twins": Kind(3, True, 6),
    "4 with twins": Kind(4, True, 7),
}
"""Every kind of scene that the world draws, by its number of triples."""

_Job = tuple[int, int, int, Kind, int]


def _scene(job: _Job) -> WorldScene:
    """Draw a scene; its predicate and its shape are as frequent as all others."""
    seed, split, index, kind, resolution = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, JUDGE_KEY, split, index)))
    predicate = PREDICATES[index % len(PREDICATES)]
    shape = None
    if kind.triples > 2 or kind.twins:
        shapes = shapes_of(kind.triples, twins=kind.twins)
        shapes = tuple(shape for shape in shapes if has_room(shape, predicate))
        shape = shapes[int(rng.integers(len(shapes)))]
    return sample_scene(
        rng, triples=kind.triples, shape=shape, predicate=predicate, resolution=resolution
    )


def draw_scenes(
    kinds: Sequence[Kind], *, seed: int, split: int, resolution: int = 64, processes: int = 2
) -> list[WorldScene]:
    """Draw one scene of each kind that is listed, in this order, on several processes."""
    jobs = [(seed, split, index, kind, resolution) for index, kind in enumerate(kinds)]
    if processes == 1:
        return list(map(_scene, jobs))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(_scene, jobs, chunksize=64)


def scene_answers(scene: WorldScene) -> np.ndarray:
    """Return the class of every ordered pair of a scene's k objects, (k, k) uint8."""
    answers = np.full((len(scene.objects), len(scene.objects)), NONE_INDEX, np.uint8)
    for subject, predicate, target in scene.relationships:
        answers[subject, target] = class_index(predicate)
        inverse = DEFAULT_VOCABULARY.inverse(predicate)
        if DEFAULT_VOCABULARY.is_symmetric(predicate):
            inverse = predicate
        if inverse is not None:
            answers[target, subject] = class_index(inverse)
    return answers


def measure_judge(judge: WorldJudge, scenes: Mapping[str, Sequence[WorldScene]]) -> dict[str, Any]:
    """Measure the accuracy on fresh pictures.

    Args:
        judge: Judge in eval mode.
        scenes: Kind of scene, a key of :data:`KINDS` -> scenes of this kind, at least one; "1" is
            among them.

    Returns:
        What ``world_judge.json`` reports; ``multi_triple_accuracy`` is None without other kinds.
        ``by_kind`` has the shares of statements that are read right (``stated``), of scenes whose
        statements all are (``all_right``) and, of the queries whose answer is not stated,
        ``reversed`` (the same objects the other way round), ``unrelated_is_none`` (two other
        objects of the picture) and ``absent_is_none`` (an object that is not in it); for twins
        ``moved_refused``, the share of negative graphs, in which one statement is about the other
        twin, that are not read as right. The confusion matrices are of scenes of one triple, with
        pairs that stand in no relation, and of all other scenes.
    """
    single, several = (np.zeros((len(CLASSES), len(CLASSES)), np.int64) for _ in range(2))
    by_kind: dict[str, dict[str, float]] = {}
    presence: list[np.ndarray] = []
    for name, own in scenes.items():
        statements = [scene.graph().labelled_triples() for scene in own]
        told = _read(judge, own, statements)
        truth = np.array([[class_index(t.predicate) for t in stated] for stated in statements])
        right = told == truth
        entry = {"n": right.size, "stated": right.mean(), "all_right": right.all(1).mean()}
        np.add.at(single if name == "1" else several, (truth.ravel(), told.ravel()), 1)
        if KINDS[name].twins:
            entry |= _moved(judge, own)
        else:
            found, present = _unstated(judge, own, single if name == "1" else None)
            entry |= found
            presence.append(present)
        by_kind[name] = {key: float(value) for key, value in entry.items()} | {"n": right.size}
    diagonal, totals = np.diag(single), single.sum(1)
    others = [entry for name, entry in by_kind.items() if name != "1"]
    counted = sum(entry["n"] for entry in others)
    return {
        "accuracy": by_kind["1"]["stated"],
        "per_predicate": {
            name: float(diagonal[i] / totals[i]) for i, name in enumerate(CLASSES) if totals[i]
        },
        "multi_triple_accuracy": sum(e["stated"] * e["n"] for e in others) / counted
        if counted
        else None,
        "presence_accuracy": float(np.concatenate(presence).mean()),
        "by_kind": by_kind,
        "n": {"single": by_kind["1"]["n"], "multi": counted},
        "classes": list(CLASSES),
        "confusion": single.tolist(),
        "confusion_of_several": several.tolist(),
    }


def _read(
    judge: WorldJudge, scenes: Sequence[WorldScene], statements: Sequence[Sequence[Triple]]
) -> np.ndarray:
    """Return the class that the judge names for each statement, (M, triples)."""
    told = []
    for start in range(0, len(scenes), _BATCH):
        window = slice(start, start + _BATCH)
        images = to_judge_images([scene.image for scene in scenes[window]])
        read = read_relations(judge, images, statements[window])
        for stated, relations in zip(statements[window], read, strict=True):
            scores = [relations.scores.get((one.subject, one.object)) for one in stated]
            told.append([NONE_INDEX if own is None else int(own.argmax()) for own in scores])
    return np.array(told, np.int64)


def _moved(judge: WorldJudge, scenes: Sequence[WorldScene]) -> dict[str, float]:
    """Say one of a twin's statements of the other one, which would be left without none."""
    shown, false = [], []
    for scene in scenes:
        stated = list(scene.graph().labelled_triples())
        (second,) = {label for label in scene.graph().labels() if label.endswith("#2")}
        exchange = {second: second.removesuffix("#2"), second.removesuffix("#2"): second}
        for twin, other in exchange.items():
            about = [i for i, one in enumerate(stated) if twin in (one.subject, one.object)]
            if len(about) > 1:
                moved = stated[about[0]]
                words = [other if w == twin else w for w in (moved.subject, moved.object)]
                stated[about[0]] = Triple(words[0], moved.predicate, words[1])
                shown.append(scene)
                false.append(stated)
                break
    if not shown:
        return {}
    told = _read(judge, shown, false)
    truth = np.array([[class_index(one.predicate) for one in stated] for stated in false])
    return {"moved_refused": 1 - float((told == truth).all(1).mean()), "moved": len(shown)}


def _unstated(
    judge: WorldJudge, scenes: Sequence[WorldScene], confusion: np.ndarray | None
) -> tuple[dict[str, float], np.ndarray]:
    """Ask every other query about scenes without twins, and note those of no relation.

    Returns:
        Shares that are answered right, and for each object whether its presence is, (M, 14) bool.
    """
    said, present = _ask_everything(judge, scenes)
    answers, truly_present = np.full_like(said, NONE_INDEX), np.zeros_like(present)
    ids = [[OBJECT_NAMES.index(name) for name in scene.objects] for scene in scenes]
    for row, (scene, own) in enumerate(zip(scenes, ids, strict=True)):
        answers[row][np.ix_(own, own)] = scene_answers(scene)
        truly_present[row, own] = True
    pairs = np.array(
        [
            [(own[s], own[o]) for s, _, o in scene.relationships]
            for scene, own in zip(scenes, ids, strict=True)
        ]
    )
    at = np.arange(len(said))[:, None]
    s, o = pairs[..., 0], pairs[..., 1]
    backward, told = answers[at, o, s], said[at, o, s]
    if confusion is not None:
        none = backward == NONE_INDEX
        np.add.at(confusion, (backward[none], told[none]), 1)
    others = (answers == NONE_INDEX) & ~np.eye(len(OBJECT_NAMES), dtype=bool)
    others[at, o, s] = False
    both = truly_present[:, :, None] & truly_present[:, None, :]
    found = {
        "reversed": float((backward == told).mean()),
        "absent_is_none": float((said == NONE_INDEX)[others & ~both].mean()),
    }
    if (others & both).any():
        found["unrelated_is_none"] = float((said == NONE_INDEX)[others & both].mean())
    return found, present == truly_present


def _ask_everything(
    judge: WorldJudge, scenes: Sequence[WorldScene]
) -> tuple[np.ndarray, np.ndarray]:
    """Ask every query of every picture: classes (M, 14, 14) and presence (M, 14) bool."""
    count = len(OBJECT_NAMES)
    every = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    classes, present = [], []
    for start in range(0, len(scenes), _BATCH):
        images = to_judge_images([scene.image for scene in scenes[start : start + _BATCH]])
        with torch.inference_mode():
            features = judge.encode(images)
            subjects, objects = (every[:, i].expand(len(images), -1) for i in (0, 1))
            logits = judge.relation_logits(features, subjects, objects)
        classes.append(logits.argmax(2).view(-1, count, count).numpy())
        present.append((features.presence_logits > 0).numpy())
    return np.concatenate(classes), np.concatenate(present)


def measure_judge_file(config: MeasureJudgeConfig) -> dict[str, Any]:
    """Measure a judge's weights; print a table, write and return the figures."""
    judge, digest = read_judge(config.judge)
    counts = {name: config.single if name == "1" else config.multi for name in KINDS}
    scenes = {
        name: draw_scenes(
            [kind] * counts[name],
            seed=config.seed,
            split=kind.split,
            resolution=config.resolution,
            processes=config.processes,
        )
        for name, kind in KINDS.items()
        if counts[name]
    }
    figures = {
        "judge": "bundled" if config.judge is None else config.judge.name,
        "sha256": digest,
        "resolution": config.resolution,
        "seed": config.seed,
        **measure_judge(judge, scenes),
    }
    replace_file(config.output, json.dumps(figures, indent=1) + "\n")
    print_figures(figures["by_kind"])
    return figures


def print_figures(by_kind: Mapping[str, Mapping[str, float]]) -> None:
    """Print the shares of every kind of scene in per cent, as a table in Markdown."""
    columns = {
        "stated": "statements right",
        "all_right": "all of a scene",
        "reversed": "the other way round",
        "unrelated_is_none": "unrelated pairs",
        "absent_is_none": "absent objects",
        "moved_refused": "wrong twin refused",
    }
    print(f"| triples | n | {' | '.join(columns.values())} |")
    print("|---" * (2 + len(columns)) + "|")
    for name, entry in by_kind.items():
        shares = (f"{100 * entry[key]:.2f}" if key in entry else "" for key in columns)
        print(f"| {name} | {entry['n']} | {' | '.join(shares)} |")
