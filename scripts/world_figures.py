"""Draw contact sheets of the bundled world: every predicate, and scenes of several statements."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sgflux.world.scenes import PREDICATES, WorldScene, sample_scene
from sgflux.world.shapes import shapes_of


def _tile(scene: WorldScene, zoom: int) -> Image.Image:
    size = scene.image.shape[0] * zoom
    return Image.fromarray(scene.image).resize((size, size), Image.Resampling.BICUBIC)


def save_predicates_figure(path: Path, *, seed: int = 0, samples: int = 6, zoom: int = 2) -> None:
    """Every predicate, ``samples`` times, in two columns of labelled rows."""
    step, label = 64 * zoom + 6, 16
    rows = len(PREDICATES) // 2
    sheet = Image.new("RGB", (2 * samples * step + 30, rows * (step + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, predicate in enumerate(PREDICATES):
        left, top = (index // rows) * (samples * step + 30), (index % rows) * (step + label)
        draw.text((left, top + 2), predicate, fill="black")
        for column in range(samples):
            rng = np.random.default_rng((seed, index, column))
            scene = sample_scene(rng, predicate=predicate)
            x = left + column * step
            sheet.paste(_tile(scene, zoom), (x, top + label))
            (subject, _, target) = scene.relationships[0]
            names = f"{scene.objects[subject]} / {scene.objects[target]}"
            if column:
                draw.text((x, top + 2), names, fill="gray")
            else:
                draw.text((x + 78, top + 2), scene.objects[subject][:9], fill="gray")
    sheet.save(path)


def save_scenes_figure(path: Path, *, seed: int = 0, zoom: int = 3) -> None:
    """Scenes of two and three triples with their statements."""
    step, label, columns = 64 * zoom + 8, 38, 6
    sheet = Image.new("RGB", (columns * step, 6 * (step + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(6 * columns):
        triples = 2 if index < 3 * columns else 3
        scene = sample_scene(np.random.default_rng((seed, 99, index)), triples=triples)
        x, y = index % columns * step, index // columns * (step + label)
        sheet.paste(_tile(scene, zoom), (x, y + label))
        for line, (subject, predicate, target) in enumerate(scene.relationships):
            text = f"{scene.objects[subject]} {predicate} {scene.objects[target]}"
            draw.text((x, y + 1 + 12 * line), text, fill="black")
    sheet.save(path)


def save_shapes_figure(path: Path, *, seed: int = 0, zoom: int = 3) -> None:
    """Scenes of four triples of every shape, then scenes of two to four triples with twins."""
    columns = 6
    twins = [shape for n in (2, 3, 4) for shape in shapes_of(n, twins=True)]
    shapes = [*shapes_of(4, twins=False), *twins[:10], *twins[-6:]]
    step, label = 64 * zoom + 8, 62
    rows = len(shapes) // columns
    sheet = Image.new("RGB", (columns * step, rows * (step + label)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, shape in enumerate(shapes):
        rng = np.random.default_rng((seed, 98, index))
        scene = sample_scene(rng, triples=len(shape.edges), shape=shape)
        x, y = index % columns * step, index // columns * (step + label)
        sheet.paste(_tile(scene, zoom), (x, y + label))
        for line, triple in enumerate(scene.graph().labelled_triples()):
            text = f"{triple.subject} {triple.predicate} {triple.object}"
            draw.text((x, y + 1 + 12 * line), text, fill="black")
        draw.text((x, y + 49), shape.name.partition(":")[0], fill="gray")
    sheet.save(path)


def main() -> None:
    """Write world_predicates.png, world_scenes.png and world_shapes.png."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    save_predicates_figure(arguments.out / "world_predicates.png", seed=arguments.seed)
    save_scenes_figure(arguments.out / "world_scenes.png", seed=arguments.seed)
    save_shapes_figure(arguments.out / "world_shapes.png", seed=arguments.seed)


if __name__ == "__main__":
    main()
