"""Train and measure the bundled world's judge; only needed to make its weights anew.

Every picture comes from ``numpy.random.SeedSequence((seed, JUDGE_KEY, split, index))``. The key is
this module's own, so no picture of the judge is one that the base model or an adapter was trained
or evaluated on. Nor do the splits meet: 0 is trained on, and 1, 2 and 3, which have so many triples
a picture, are measured on.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgflux.data.boxes import Box
from sgflux.files.writing import replace_file
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.settings.world_models import TrainJudgeConfig
from sgflux.world.judge import CLASSES, NONE_INDEX, WorldJudge
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, sample_scene

JUDGE_KEY = int.from_bytes(b"judge", "big")
"""The judge's own branch of the seeds."""

_PEAK_RATE = 2.5e-3
_INDEX = {name: index for index, name in enumerate(OBJECT_NAMES)}


@dataclass(frozen=True)
class JudgeData:
    """Pictures with the answer to every possible query.

    Attributes:
        images: (M, 64, 64, 3) uint8.
        answers: (M, 14, 14) uint8, class of (subject, object).
        located: (M, 14, 256) bool, the cells of a 16 x 16 grid that an object covers.
        stated: (M, 3, 2) uint8, the (subject, object) of each triple; scenes with fewer repeat.
    """

    images: np.ndarray
    answers: np.ndarray
    located: np.ndarray
    stated: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(M, 14) bool."""
        return np.asarray(self.located.any(2))


def _cells(box: Box) -> np.ndarray:
    """Return the cells of 4 pixels in the inner part of a box, (256,) bool."""
    x, y, width, height = box
    middle = np.arange(2, 64, 4)
    across = np.abs(middle - (x + width / 2))
    down = np.abs(middle - (y + height / 2))
    columns = (across <= 0.35 * width) | (across == across.min())
    rows = (down <= 0.35 * height) | (down == down.min())
    return (rows[:, None] & columns[None, :]).ravel()


def _one(job: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
    seed, split, index, triples = job
    rng = np.random.default_rng(np.random.SeedSequence((seed, JUDGE_KEY, split, index)))
    scene = sample_scene(rng, triples=triples, predicate=PREDICATES[index % len(PREDICATES)])
    answers = np.full((14, 14), NONE_INDEX, np.uint8)
    located = np.zeros((14, 256), bool)
    ids = [_INDEX[name] for name in scene.objects]
    for index_of_object, box in zip(ids, scene.boxes, strict=True):
        located[index_of_object] = _cells(box)
    stated = []
    for subject, predicate, target in scene.relationships:
        s, o = ids[subject], ids[target]
        stated.append((s, o))
        answers[s, o] = PREDICATES.index(predicate)
        inverse = DEFAULT_VOCABULARY.inverse(predicate)
        if DEFAULT_VOCABULARY.is_symmetric(predicate):
            inverse = predicate
        if inverse is not None:
            answers[o, s] = PREDICATES.index(inverse)
    pairs = np.array([stated[i % len(stated)] for i in range(3)], np.uint8)
    return scene.image, answers, located, pairs


def render_judge_data(*, seed: int, split: int, triples: Sequence[int]) -> JudgeData:
    """Render one scene per entry of ``triples`` (its number of triples), on several processes."""
    jobs = [(seed, split, index, count) for index, count in enumerate(triples)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = pool.map(_one, jobs, chunksize=128)
    images, answers, located, stated = (np.stack(column) for column in zip(*rows, strict=True))
    return JudgeData(images, answers, located, stated)


def _blur_and_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Make pictures softer, noisier and of another contrast, as a decoder or sampler does."""
    b = images.shape[0]

    def each(low: float, high: float) -> Tensor:
        return torch.rand(b, 1, 1, 1, generator=generator) * (high - low) + low

    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = images + each(-0.2, 1.0).clamp(min=0) * (soft - images)
    images = (images - 0.5) * each(0.85, 1.1) + 0.5 + each(-0.05, 0.05)
    noise = torch.randn(images.shape, generator=generator)
    return (images + each(-0.02, 0.06).clamp(min=0) * noise).clamp(0, 1)


def _queries(data: JudgeData, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Draw six queries per image: three stated pairs, two of present objects, one of any."""
    b = len(rows)
    pairs = np.empty((b, 6, 2), np.int64)
    stated = data.stated[rows].astype(np.int64)
    pairs[:, :3] = stated
    flip = rng.random((b, 3)) < 0.25
    flip[:, 0] = False
    pairs[:, :3][flip] = stated[flip][:, ::-1]
    scores = rng.random((b, 2, 14)) - 2 * ~data.located[rows].any(2)[:, None]
    pairs[:, 3:5] = np.argsort(-scores, axis=2)[:, :, :2]
    pairs[:, 5] = np.argsort(rng.random((b, 14)), axis=1)[:, :2]
    answers = data.answers[rows[:, None], pairs[..., 0], pairs[..., 1]].astype(np.int64)
    return tuple(torch.from_numpy(x) for x in (pairs[..., 0].copy(), pairs[..., 1].copy(), answers))


def _pixels(data: JudgeData, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(data.images[rows]).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def measure_judge(judge: WorldJudge, data: Mapping[int, JudgeData]) -> dict[str, Any]:
    """Measure the accuracy on fresh pictures, which ``world_judge.json`` reports.

    Args:
        judge: Judge in eval mode.
        data: pictures by their number of triples; 1 must be among them.
    """
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    by_triples: dict[str, dict[str, float]] = {}
    present_right, present_count = 0, 0
    for triples, scenes in data.items():
        said, present = _ask_everything(judge, scenes)
        truly_present = scenes.present
        present_right += int((present == truly_present).sum())
        present_count += present.size
        at = np.arange(len(said))[:, None]
        s, o = scenes.stated[:, :triples, 0], scenes.stated[:, :triples, 1]
        forward, told = scenes.answers[at, s, o], said[at, s, o]
        backward, told_backward = scenes.answers[at, o, s], said[at, o, s]
        others = (scenes.answers == NONE_INDEX) & ~np.eye(len(OBJECT_NAMES), dtype=bool)
        others[at, o, s] = False
        both = truly_present[:, :, None] & truly_present[:, None, :]
        entry = {
            "n": int(forward.size),
            "stated": float((forward == told).mean()),
            "reversed": float((backward == told_backward).mean()),
            "absent_is_none": float((said == NONE_INDEX)[others & ~both].mean()),
        }
        if triples > 1:
            entry["unrelated_is_none"] = float((said == NONE_INDEX)[others & both].mean())
        by_triples[str(triples)] = entry
        if triples == 1:
            np.add.at(confusion, (forward, told), 1)
            none = backward == NONE_INDEX
            np.add.at(confusion, (backward[none], told_backward[none]), 1)
    diagonal, totals = np.diag(confusion), confusion.sum(1)
    several = [entry for key, entry in by_triples.items() if key != "1"]
    counted = sum(entry["n"] for entry in several)
    return {
        "accuracy": by_triples["1"]["stated"],
        "per_predicate": {
            name: float(diagonal[i] / totals[i]) for i, name in enumerate(CLASSES) if totals[i]
        },
        "multi_triple_accuracy": sum(e["stated"] * e["n"] for e in several) / max(counted, 1),
        "presence_accuracy": present_right / present_count,
        "by_triples": by_triples,
        "n": {"single": by_triples["1"]["n"], "multi": counted},
        "classes": list(CLASSES),
        "confusion": confusion.tolist(),
    }


def _ask_everything(judge: WorldJudge, data: JudgeData) -> tuple[np.ndarray, np.ndarray]:
    """Ask every query of every picture: classes (M, 14, 14) and presence (M, 14) bool."""
    count = len(OBJECT_NAMES)
    every = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    classes, present = [], []
    for start in range(0, len(data.images), 128):
        rows = np.arange(start, min(start + 128, len(data.images)))
        features = judge.encode(_pixels(data, rows))
        subjects, objects = (every[:, i].expand(len(rows), -1) for i in (0, 1))
        logits = judge.relation_logits(features, subjects, objects)
        classes.append(logits.argmax(2).view(-1, count, count).numpy())
        present.append((features.presence_logits > 0).numpy())
    return np.concatenate(classes), np.concatenate(present)


def train_judge(config: TrainJudgeConfig) -> dict[str, Any]:
    """Train on fresh renders, measure on others, save the weights and their ``.json``.

    Of the training pictures 30 % have one triple, 40 % two and 30 % three. AdamW has a one-cycle
    rate, which follows the clock if the training ends by it; the arithmetic is bf16 autocast.

    Args:
        config: Settings of the training.

    Returns:
        What was written to the ``.json``.
    """
    started, seed, scenes = time.monotonic(), config.seed, config.scenes
    order = np.random.default_rng(np.random.SeedSequence((seed, JUDGE_KEY, 99)))
    triples = order.choice([1, 2, 3], size=scenes, p=[0.3, 0.4, 0.3]).tolist()
    data = render_judge_data(seed=seed, split=0, triples=triples)
    print(f"rendered {scenes} scenes in {time.monotonic() - started:.0f} s")
    torch.manual_seed(seed)
    judge = WorldJudge()
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in judge.parameters() if p.ndim > 1]
    plain = [p for p in judge.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}],
        lr=_PEAK_RATE,
        betas=(0.9, 0.98),
    )
    began = time.monotonic()
    rows = order.permutation(scenes)
    progress, step, cursor = 0.0, 0, 0
    while progress < 1.0:
        if cursor + config.batch_size > scenes:
            rows, cursor = order.permutation(scenes), 0
        batch = rows[cursor : cursor + config.batch_size]
        cursor += config.batch_size
        rate = min(1.0, progress / 0.06) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-3
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * rate
        subjects, objects, answers = _queries(data, batch, order)
        images = _blur_and_noise(_pixels(data, batch), generator)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            features = judge.encode(images)
            logits = judge.relation_logits(features, subjects, objects)
        relation = F.cross_entropy(logits.flatten(0, 1), answers.flatten())
        located = torch.from_numpy(data.located[batch]).float()
        presence = F.binary_cross_entropy_with_logits(features.presence_logits, located.amax(2))
        location = F.binary_cross_entropy_with_logits(
            features.location_logits, located, pos_weight=torch.tensor(8.0)
        )
        loss = relation + presence + 3.0 * location
        optimizer.zero_grad(set_to_none=True)
        with sdpa_kernel(SDPBackend.MATH):  # the fused CPU kernel is slow backwards in bf16
            loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent = (time.monotonic() - began) / 60
        progress = step / config.max_steps
        if config.minutes is not None:
            progress = max(progress, spent / config.minutes)
        if step % 50 == 0:
            right = (logits[:, 0].argmax(1) == answers[:, 0]).float().mean()
            print(
                f"step {step} ({100 * progress:.0f} %, {spent:.1f} min) relation {relation:.3f} "
                f"presence {presence:.4f} location {location:.4f} stated {right:.3f}"
            )
    card = _save(judge, config, steps=step)
    multi = config.measure_multi
    counts = {1: config.measure_single, 2: multi // 2, 3: multi - multi // 2}
    fresh = {
        number: render_judge_data(seed=seed, split=number, triples=[number] * count)
        for number, count in counts.items()
        if count
    }
    card |= measure_judge(judge.eval(), fresh)
    replace_file(config.output.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    print(json.dumps({k: v for k, v in card.items() if k not in ("confusion", "classes")}))
    return card


def _save(judge: WorldJudge, config: TrainJudgeConfig, *, steps: int) -> dict[str, Any]:
    """Write the weights as bfloat16, and put the same rounded ones into ``judge``."""
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in judge.state_dict().items()}
    judge.load_state_dict({key: value.float() for key, value in state.items()})
    payload = save_tensors(state)
    replace_file(config.output, payload)
    return {
        "config": judge.config,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "seed": config.seed,
        "training": {"steps": steps, "batch_size": config.batch_size, "scenes": config.scenes},
        "command": " ".join(["sgflux", *sys.argv[1:]]),
    }


def save_confusion_figure(card: dict[str, Any], path: str | Path) -> None:
    """Save the 25 x 25 confusion matrix as a picture, in per cent of each row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = np.array(card["confusion"], float)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = pyplot.subplots(figsize=(9, 8.4), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for i, j in zip(*np.nonzero(share >= 0.5), strict=True):
        shown = f"{share[i, j]:.0f}" if share[i, j] > 99.95 else f"{share[i, j]:.1f}"
        color = "white" if share[i, j] > 50 else "black"
        axes.text(j, i, shown, ha="center", va="center", fontsize=6, color=color)
    names = card["classes"]
    axes.set_xticks(range(25), names, rotation=90, fontsize=8)
    axes.set_yticks(range(25), names, fontsize=8)
    axes.set_xlabel("the judge says")
    axes.set_ylabel("the picture shows")
    axes.set_title(
        f"World judge on {card['n']['single']} fresh single-triple pictures: "
        f"{100 * card['accuracy']:.2f} % right (rows in %)",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
