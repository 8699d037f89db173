"""A contact sheet of examples with their boxes, so that a person sees what the data is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import load_image
from sgflux.data.pictures import contact_sheet

TILE = (320, 240)
COLUMNS = 6
PER_PREDICATE = 2

_PAPER = (235, 235, 232)
_SUBJECT, _OBJECT, _OTHER = (230, 90, 20), (20, 110, 220), (150, 150, 150)


def examples_sheet(
    examples: Sequence[SceneExample], *, images_dir: Path, per_predicate: int = PER_PREDICATE
) -> Image.Image:
    """The first examples of every predicate, subject in orange, object in blue.

    Args:
        examples: at least one, whose pictures can be read.
        images_dir: the folder of the pictures.
        per_predicate: examples of each.
    """
    shown: dict[str, list[SceneExample]] = {}
    for example in examples:
        group = shown.setdefault(example.triple.predicate, [])
        if len(group) < per_predicate:
            group.append(example)
    chosen = [example for name in sorted(shown) for example in shown[name]]
    return contact_sheet(
        [_tile(example, images_dir) for example in chosen],
        [f"{example.triple}\n{example.image_rel_path}" for example in chosen],
        columns=COLUMNS,
        scale=1,
    )


def _tile(example: SceneExample, images_dir: Path) -> Image.Image:
    """The whole picture on a tile of one size, with the boxes of the row's objects."""
    image = load_image(resolve_image(example, images_dir), mirrored=example.is_mirrored)
    scale = min(TILE[0] / image.width, TILE[1] / image.height)
    tile = ImageOps.pad(image, TILE, Image.Resampling.LANCZOS, color=_PAPER)
    left = (TILE[0] - image.width * scale) / 2
    top = (TILE[1] - image.height * scale) / 2
    draw = ImageDraw.Draw(tile)
    subject, _, target = example.graph.relationships[example.triple_index]
    colors = {subject: _SUBJECT, target: _OBJECT}
    boxes = list(enumerate(example.boxes or ()))
    for i, (x, y, w, h) in sorted(boxes, key=lambda entry: entry[0] in colors):
        corners = (x, y, x + w, y + h)
        around = [side * scale + (top if n % 2 else left) for n, side in enumerate(corners)]
        color = colors.get(i, _OTHER)
        draw.rectangle(around, outline=color, width=3 if i in colors else 1)
        draw.text((around[0] + 4, around[1] + 2), example.graph.objects[i], fill=color)
    return tile
