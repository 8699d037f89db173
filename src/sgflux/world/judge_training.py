"""Train the bundled world's judge; only needed to make its weights anew.

The pictures are those of split 0 of :mod:`sgflux.world.judge_measuring`, which says how they are
drawn and what the judge is measured on. A training that was interrupted goes on from its last
checkpoint and ends with the weights of an uninterrupted one.

Shapes: M pictures, K = 8 places for the objects of each.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.files.writing import make_folder, replacing
from sgflux.settings.world_models import TrainJudgeConfig
from sgflux.world.judge import NONE_INDEX, WorldJudge, read_judge
from sgflux.world.judge_measuring import (
    JUDGE_KEY,
    KINDS,
    draw_scenes,
    measure_judge,
    scene_answers,
)
from sgflux.world.scenes import OBJECT_NAMES, WorldScene

SHARES: dict[str, float] = {
    "1": 0.15,
    "2": 0.2,
    "3": 0.15,
    "4": 0.15,
    "2 with twins": 0.1,
    "3 with twins": 0.1,
    "4 with twins": 0.15,
}
"""Kind of scene -> share of the training pictures."""

_INDEX = {name: index for index, name in enumerate(OBJECT_NAMES)}
_PLACES, _STATED = 8, 4
_MAY_CHANGE = ("output", "figure", "minutes", "measure_single", "measure_multi", "save_every")
_NOBODY = len(OBJECT_NAMES)


@dataclass(frozen=True)
class JudgeData:
    """Pictures with the answer to every possible query.

    Attributes:
        images: (M, 64, 64, 3) uint8.
        names: (M, K) uint8, index of each object's name, 14 beyond the last object.
        cells: (M, K, 256) bool, the cells of a 16 x 16 grid that an object covers.
        answers: (M, K, K) uint8, class of (subject, object).
        stated: (M, 4, 2) uint8, the (subject, object) of each triple; scenes with fewer repeat.
    """

    images: np.ndarray
    names: np.ndarray
    cells: np.ndarray
    answers: np.ndarray
    stated: np.ndarray

    @classmethod
    def of(cls, scenes: Sequence[WorldScene]) -> JudgeData:
        """Read scenes."""
        count = len(scenes)
        names = np.full((count, _PLACES), _NOBODY, np.uint8)
        cells = np.zeros((count, _PLACES, 256), bool)
        answers = np.full((count, _PLACES, _PLACES), NONE_INDEX, np.uint8)
        stated = np.zeros((count, _STATED, 2), np.uint8)
        for row, scene in enumerate(scenes):
            k = len(scene.objects)
            names[row, :k] = [_INDEX[name] for name in scene.objects]
            cells[row, :k] = [_cells(box) for box in scene.boxes]
            answers[row, :k, :k] = scene_answers(scene)
            pairs = [(s, o) for s, _, o in scene.relationships]
            stated[row] = [pairs[i % len(pairs)] for i in range(_STATED)]
        return cls(np.stack([scene.image for scene in scenes]), names, cells, answers, stated)

    def located(self, rows: np.ndarray) -> np.ndarray:
        """Return the cells that an object of each name covers: (rows, 14, 256) bool."""
        located = np.zeros((len(rows), _NOBODY + 1, 256), bool)
        for place in range(_PLACES):
            located[np.arange(len(rows)), self.names[rows, place]] |= self.cells[rows, place]
        return located[:, :_NOBODY]


@dataclass(frozen=True)
class Queries:
    """Queries about B pictures.

    Attributes:
        subjects, objects: (B, Q) int64, indices of names.
        subject_cells, object_cells: (B, Q, 256) bool, where they are looked for.
        answers: (B, Q) int64, classes.
    """

    subjects: Tensor
    objects: Tensor
    subject_cells: Tensor
    object_cells: Tensor
    answers: Tensor


def _cells(box: Box) -> np.ndarray:
    """Return the cells of 4 pixels in the inner part of a box, (256,) bool."""
    x, y, width, height = box
    middle = np.arange(2, 64, 4)
    across = np.abs(middle - (x + width / 2))
    down = np.abs(middle - (y + height / 2))
    columns = (across <= 0.35 * width) | (across == across.min())
    rows = (down <= 0.35 * height) | (down == down.min())
    return (rows[:, None] & columns[None, :]).ravel()


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


def draw_queries(data: JudgeData, rows: np.ndarray, rng: np.random.Generator) -> Queries:
    """Draw eight queries per image: four stated pairs, three of present objects, one of an absent.

    Some stated pairs are asked the other way round. Of the present objects, the third pair is a
    stated one with the other twin in place of a twin, where there are twins.
    """
    b = len(rows)
    at = np.arange(b)[:, None]
    names = data.names[rows].astype(np.int64)
    pairs = np.empty((b, 7, 2), np.int64)
    stated = data.stated[rows].astype(np.int64)
    flip = rng.random((b, _STATED)) < 0.25
    flip[:, 0] = False
    pairs[:, :_STATED] = np.where(flip[..., None], stated[..., ::-1], stated)
    absent = names[:, None] == _NOBODY
    pairs[:, 4:7] = np.argsort(rng.random((b, 3, _PLACES)) + 2.0 * absent, axis=2)[..., :2]
    alike = (names[:, :, None] == names[:, None]) & ~np.eye(_PLACES, dtype=bool)
    alike &= names[:, :, None] != _NOBODY
    is_twin, other = alike.any(2), alike.argmax(2)
    exchanged = stated[np.arange(b), rng.integers(_STATED, size=b)]
    turned = np.where(is_twin[at, exchanged], other[at, exchanged], exchanged)
    has_turned = (turned != exchanged).any(1)
    pairs[has_turned, 6] = turned[has_turned]
    answers = data.answers[rows[:, None], pairs[..., 0], pairs[..., 1]].astype(np.int64)
    asked = names[at[..., None], pairs]
    # Twins are looked for at their places, as they are when they are judged; others everywhere.
    cells = data.cells[rows[:, None, None], pairs]
    cells = np.where(is_twin[at[..., None], pairs][..., None], cells, True)
    # The last pair has an object that is not in the picture.
    here = np.zeros((b, _NOBODY + 1), bool)
    here[at, names] = True
    away = np.argsort(rng.random((b, _NOBODY)) + here[:, :_NOBODY], axis=1)[:, 0]
    anything = (away + rng.integers(1, _NOBODY, size=b)) % _NOBODY
    last = np.stack([away, anything], axis=1)
    last = np.where(rng.random((b, 1)) < 0.5, last, last[:, ::-1])
    asked = np.concatenate([asked, last[:, None]], axis=1)
    answers = np.concatenate([answers, np.full((b, 1), NONE_INDEX)], axis=1)
    cells = np.concatenate([cells, np.ones((b, 1, 2, 256), bool)], axis=1)
    return Queries(
        subjects=torch.from_numpy(asked[..., 0].copy()),
        objects=torch.from_numpy(asked[..., 1].copy()),
        subject_cells=torch.from_numpy(cells[..., 0, :].copy()),
        object_cells=torch.from_numpy(cells[..., 1, :].copy()),
        answers=torch.from_numpy(answers),
    )


def _pixels(data: JudgeData, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(data.images[rows]).permute(0, 3, 1, 2).float() / 255


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((seed, JUDGE_KEY, 99, *key)))


def train_judge(config: TrainJudgeConfig) -> dict[str, Any]:
    """Train on fresh renders, measure on others, save the weights and their ``.json``.

    AdamW has a one-cycle rate, which follows the clock if the training ends by it; the arithmetic
    is bf16 autocast.

    Args:
        config: Settings of the training.

    Returns:
        What was written to the ``.json``.

    Raises:
        SgfluxError: if a checkpoint is of other settings.
    """
    make_folder(config.output.parent)
    started, seed, scenes = time.monotonic(), config.seed, config.scenes
    kinds = _generator(seed, 0).choice(list(SHARES), size=scenes, p=list(SHARES.values()))
    data = JudgeData.of(draw_scenes([KINDS[kind] for kind in kinds], seed=seed, split=0))
    print(f"rendered {scenes} scenes in {time.monotonic() - started:.0f} s", flush=True)
    torch.manual_seed(seed)
    judge = WorldJudge() if config.start_from is None else read_judge(config.start_from)[0]
    judge.train().requires_grad_(True)
    decayed = [p for p in judge.parameters() if p.ndim > 1]
    plain = [p for p in judge.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}],
        lr=config.lr,
        betas=(0.9, 0.98),
    )
    step, spent_before = 0, 0.0

    def progress_at(spent: float) -> float:
        """Share of the training that is done after ``step`` steps and so many minutes."""
        by_clock = 0.0 if config.minutes is None else spent / config.minutes
        return max(step / config.max_steps, by_clock)

    checkpoint = config.output.with_suffix(".checkpoint.pt")
    recipe = {key: str(value) for key, value in asdict(config).items() if key not in _MAY_CHANGE}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] != recipe:
            raise SgfluxError(
                f"{checkpoint} is of a training with other settings; delete it, or give the "
                f"settings {state['recipe']}"
            )
        judge.load_state_dict(state["judge"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent_before = state["step"], state["minutes"]
        print(f"resumed at step {step}", flush=True)
    began, progress = time.monotonic(), progress_at(spent_before)
    a_pass = scenes // config.batch_size
    while progress < 1.0:
        order = _generator(seed, 1, step // a_pass).permutation(scenes)
        batch = order[step % a_pass * config.batch_size :][: config.batch_size]
        draws = _generator(seed, 2, step)
        noise = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rate = min(1.0, progress / 0.06) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-3
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate
        queries = draw_queries(data, batch, draws)
        images = _blur_and_noise(_pixels(data, batch), noise)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            features = judge.encode(images)
            logits = judge.relation_logits(
                features,
                queries.subjects,
                queries.objects,
                subject_cells=queries.subject_cells,
                object_cells=queries.object_cells,
            )
        relation = F.cross_entropy(logits.flatten(0, 1), queries.answers.flatten())
        located = torch.from_numpy(data.located(batch)).float()
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
        spent = spent_before + (time.monotonic() - began) / 60
        progress = progress_at(spent)
        if step % 50 == 0:
            right = (logits.argmax(2) == queries.answers).float().mean(0)
            print(
                f"step {step} ({100 * progress:.0f} %, {spent:.1f} min) relation {relation:.3f} "
                f"presence {presence:.4f} location {location:.4f} stated {right[:4].mean():.3f} "
                f"others {right[4:].mean():.3f}",
                flush=True,
            )
        # The last one is there if measuring is interrupted.
        if step % config.save_every == 0 or progress >= 1.0:
            state = {
                "recipe": recipe,
                "step": step,
                "minutes": spent,
                "judge": judge.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            with replacing(checkpoint) as file:
                torch.save(state, file)
    payload, card = _rounded(judge, config, steps=step)
    counts = {
        name: config.measure_single if name == "1" else config.measure_multi for name in KINDS
    }
    fresh = {
        name: draw_scenes([kind] * counts[name], seed=seed, split=kind.split)
        for name, kind in KINDS.items()
        if counts[name]
    }
    card |= measure_judge(judge.eval(), fresh)
    _save(config.output, payload, card)
    checkpoint.unlink(missing_ok=True)
    return card


def _rounded(
    judge: WorldJudge, config: TrainJudgeConfig, *, steps: int
) -> tuple[bytes, dict[str, Any]]:
    """Round the weights to bfloat16 in ``judge``, and return their file and what is said of it."""
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in judge.state_dict().items()}
    judge.load_state_dict({key: value.float() for key, value in state.items()})
    payload = save_tensors(state)
    return payload, {
        "config": judge.config,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "seed": config.seed,
        "training": {"steps": steps, "batch_size": config.batch_size, "scenes": config.scenes},
        "command": " ".join(["sgflux", *sys.argv[1:]]),
    }


def _save(path: Path, payload: bytes, card: dict[str, Any]) -> None:
    """Write the weights and their ``.json``, which names their digest: both or neither."""
    text = json.dumps(card, indent=1) + "\n"
    with (
        replacing(path, size=len(payload)) as weights,
        replacing(path.with_suffix(".json")) as described,
    ):
        weights.write(payload)
        weights.flush()
        described.write(text.encode("utf-8"))


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
