"""tiny-flux's training set: pictures of the bundled world, their captions and their layouts.

Shapes: N pictures of H = W = 64 pixels, L tokens of T5's sequence.
"""

from __future__ import annotations

import os
import random
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from sgflux.data.prompts import prompts_for_graph, terse
from sgflux.files.writing import replacing
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.scenes import OBJECT_NAMES, PREDICATES, WorldScene, sample_scene
from sgflux.world.shapes import MAX_STATEMENTS, Shape, shape_name, shapes_of
from sgflux.world.tiny_flux.config import TrainBaseConfig
from sgflux.world.tiny_flux.text import SEQUENCE_LENGTH

RESOLUTION = 64
CAPTIONS_PER_KIND = 2  # of every scene, relational and neutral ones; the first in reading order
LAYOUT_ROWS = len(OBJECT_NAMES) + 2 * len(PREDICATES)


def scene_captions(scene: WorldScene, rng: random.Random) -> list[str]:
    """Write relational captions, then neutral ones in random order of the objects.

    Relational captions tell two objects of one name apart, neutral ones name it twice. The first
    relational caption is in reading order; the others are so unless every statement
    shares an object with another one, which says where they go in any order. A neutral caption must
    give nothing away.
    """
    ordered = scene.in_reading_order()
    relational = [terse(ordered)]
    for _ in range(CAPTIONS_PER_KIND - 1):
        stated = list(ordered.relationships)
        if len(scene.objects) == len(stated) + 1:
            rng.shuffle(stated)
        shuffled = replace(ordered, relationships=tuple(stated))
        relational.append(terse(shuffled))
    objects, neutral = list(scene.objects), []
    for _ in range(CAPTIONS_PER_KIND):
        rng.shuffle(objects)
        unrelated = SceneGraph(objects=tuple(objects), relationships=())
        neutral.append(prompts_for_graph(unrelated, "neutral"))
    return relational + neutral


def scene_layout(scene: WorldScene) -> np.ndarray:
    """Return where every object, and every role, is: (62, 64) bool over the image tokens.

    The first 14 rows are the objects, then come the subjects of the 24 predicates, then their
    objects. A token belongs to a box that covers its centre.
    """
    side = RESOLUTION // 8
    centres = 8 * np.arange(side) + 4
    rows = np.zeros((LAYOUT_ROWS, side, side), bool)
    covered = []
    for name, (x, y, width, height) in zip(scene.objects, scene.boxes, strict=True):
        across = (centres >= x - 1) & (centres <= x + width + 1)
        down = (centres >= y - 1) & (centres <= y + height + 1)
        covered.append(down[:, None] & across[None, :])
        rows[OBJECT_NAMES.index(name)] |= covered[-1]
    first = len(OBJECT_NAMES)
    for subject, predicate, object_ in scene.relationships:
        row = first + PREDICATES.index(predicate)
        rows[row] |= covered[subject]
        rows[row + len(PREDICATES)] |= covered[object_]
    return rows.reshape(LAYOUT_ROWS, side * side)


_NAME = rf"(?:(another|first|second) )?({'|'.join(OBJECT_NAMES)})"
_STATED = re.compile(rf"{_NAME} ({'|'.join(p.split('/')[-1] for p in PREDICATES)}) {_NAME}")


def caption_roles(caption: str, *, length: int = SEQUENCE_LENGTH) -> np.ndarray:
    """Return which word is subject (first 24 columns) or object of what: (length, 48) bool.

    One row a token of T5's sequence; the world's captions have one token a word.
    """
    words = [said.split("/")[-1] for said in PREDICATES]
    roles = np.zeros((length, 2 * len(PREDICATES)), bool)
    for match in _STATED.finditer(caption):
        predicate = words.index(match[3])
        roles[caption[: match.start(2)].count(" "), predicate] = True
        roles[caption[: match.start(5)].count(" "), len(PREDICATES) + predicate] = True
    return roles


def shares_an_object(caption: str) -> bool:
    """Whether two statements of a caption are about the same object."""
    names = [
        (which in ("another", "second"), name)
        for match in _STATED.finditer(caption)
        for which, name in ((match[1], match[2]), (match[4], match[5]))
    ]
    return len(set(names)) < len(names)


@dataclass(frozen=True)
class _Chunk:
    """Some scenes that one process draws; see :class:`TrainBaseConfig` for the settings."""

    seed: int
    number: int
    count: int
    scene_sizes: tuple[float, ...]
    twins: float
    hold_out_shapes: tuple[str, ...]

    def shape(self, rng: np.random.Generator, triples: int) -> Shape | None:
        """Draw the shape of a scene; None for what a scene of so many triples usually shows."""
        with_twins = bool(self.twins) and triples > 1 and rng.random() < self.twins
        is_simple = not self.twins and len(self.scene_sizes) < MAX_STATEMENTS
        if not with_twins and (is_simple or triples < 3) and not self.hold_out_shapes:
            return None
        shapes = [
            shape
            for shape in shapes_of(triples, twins=with_twins)
            if shape.name not in self.hold_out_shapes
        ]
        return shapes[int(rng.integers(len(shapes)))]


def _render_chunk(chunk: _Chunk) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    rng = np.random.default_rng(np.random.SeedSequence([chunk.seed, 0xBA5E, chunk.number]))
    order = random.Random(f"{chunk.seed} base captions {chunk.number}")
    images = np.empty((chunk.count, RESOLUTION, RESOLUTION, 3), np.uint8)
    captions, layouts = [], []
    for index in range(chunk.count):
        triples = 1 + int(rng.choice(len(chunk.scene_sizes), p=chunk.scene_sizes))
        shape = chunk.shape(rng, triples)
        scene = sample_scene(rng, triples=triples, shape=shape, resolution=RESOLUTION)
        images[index] = scene.image
        captions.append(scene_captions(scene, order))
        layouts.append(scene_layout(scene))
    return images, captions, np.packbits(np.stack(layouts), axis=-1)


def make_scenes(config: TrainBaseConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make pictures (N, 64, 64, 3) uint8, captions (N, 2 * CAPTIONS_PER_KIND) str, layouts.

    Layouts are those of :func:`scene_layout`, eight tokens a byte: (N, 62, 8) uint8.
    """
    path = config.output_dir / "scenes.npz"
    if not path.exists():
        chunk = 500
        held_out = tuple(map(shape_name, config.hold_out_shapes))
        jobs = [
            _Chunk(
                seed=config.seed,
                number=start // chunk,
                count=min(chunk, config.scenes - start),
                scene_sizes=config.scene_sizes,
                twins=config.twins,
                hold_out_shapes=held_out,
            )
            for start in range(0, config.scenes, chunk)
        ]
        workers = min(os.cpu_count() or 1, len(jobs))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_render_chunk, jobs) if workers > 1 else map(_render_chunk, jobs))
        images = np.concatenate([part[0] for part in parts])
        captions = np.array([row for part in parts for row in part[1]])
        layouts = np.concatenate([part[2] for part in parts])
        with replacing(path) as file:
            np.savez(file, images=images, captions=captions, layouts=layouts)
    with np.load(path, allow_pickle=False) as stored:
        return stored["images"], stored["captions"], stored["layouts"]


def to_pixels(images: np.ndarray) -> Tensor:
    """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return pixels.contiguous(memory_format=torch.channels_last)
