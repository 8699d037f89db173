"""A contact sheet of examples with their boxes, so that a person sees what the data is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.data.images import load_image
from sgflux.data.pictures import contact_sheet

TILE = (320, 240)
COLUMNS = 6
PER_PREDICATE = 2

_PAPER, _INK, _TILE_PAPER = (250, 250, 248), (38, 38, 42), (235, 235, 232)
_SUBJECT, _OBJECT, _OTHER = (214, 80, 10), (20, 100, 210), (110, 110, 110)
_LEGEND = (("subject", _SUBJECT), ("object", _OBJECT), ("other objects of the graph", _OTHER))
_MARGIN = 20


def examples_sheet(
    examples: Sequence[SceneExample], *, images_dir: Path, title: str
) -> Image.Image:
    """Draw the first examples of every predicate, subject in orange, object in blue.

    Args:
        examples: Examples, at least one, whose pictures can be read.
        images_dir: the folder of the pictures.
        title: Text of the line above the examples.
    """
    shown: dict[str, list[SceneExample]] = {}
    for example in examples:
        group = shown.setdefault(example.triple.predicate, [])
        if len(group) < PER_PREDICATE:
            group.append(example)
    chosen = [example for name in sorted(shown) for example in shown[name]]
    tiles = contact_sheet(
        [_tile(example, images_dir) for example in chosen],
        [_caption(example) for example in chosen],
        columns=COLUMNS,
        scale=1,
    )
    has_others = any(len(example.graph.objects) > 2 for example in chosen)
    return _with_head(tiles, title, _LEGEND if has_others else _LEGEND[:2])


def _caption(example: SceneExample) -> str:
    """Return the statement, how it was annotated, what else the row states, and the file."""
    words = [str(example.triple)]
    raw = example.meta.get("predicate_raw", example.triple.predicate)
    if raw != example.triple.predicate:
        words.append(f"annotated as {raw!r}")
    more = len(example.graph.relationships) - 1
    if more:
        words.append(f"and {more} more triple{'s' * (more > 1)}")
    path = example.image_rel_path
    return "\n".join([*words, f"{path} mirrored" if example.is_mirrored else path])


def _with_head(
    tiles: Image.Image, title: str, legend: Sequence[tuple[str, tuple[int, int, int]]]
) -> Image.Image:
    """Draw the sheet below its title and the meaning of the colors."""
    large, small = ImageFont.load_default(26), ImageFont.load_default(18)
    head = 3 * _MARGIN + 26 + 18
    entries = [(words, color, round(small.getlength(words))) for words, color in legend]
    wanted = [large.getlength(title), sum(26 + length + _MARGIN for _, _, length in entries)]
    width = max(tiles.width, round(max(wanted)) + 2 * _MARGIN)
    sheet = Image.new("RGB", (width, head + tiles.height), _PAPER)
    sheet.paste(tiles, (0, head))
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=large)
    left, top = _MARGIN, 2 * _MARGIN + 26
    for words, color, length in entries:
        draw.rectangle((left, top + 3, left + 15, top + 18), fill=color)
        draw.text((left + 26, top), words, fill=_INK, font=small)
        left += 26 + length + _MARGIN
    return sheet


def _tile(example: SceneExample, images_dir: Path) -> Image.Image:
    """Draw the whole picture on a tile of one size, with the boxes of the row's objects."""
    image = load_image(resolve_image(example, images_dir), mirrored=example.is_mirrored)
    scale = min(TILE[0] / image.width, TILE[1] / image.height)
    tile = ImageOps.pad(image, TILE, Image.Resampling.LANCZOS, color=_TILE_PAPER)
    left = (TILE[0] - image.width * scale) / 2
    top = (TILE[1] - image.height * scale) / 2
    draw = ImageDraw.Draw(tile)
    subject, _, target = example.graph.relationships[example.triple_index]
    colors = {subject: _SUBJECT, target: _OBJECT}
    # The two that the row is about come last, and so on top; names come above all boxes.
    order = sorted(range(len(example.boxes or ())), key=lambda i: i in colors)
    shown = []
    for i in order:
        corners = (example.boxes or ())[i].corners
        around = [side * scale + (top if n % 2 else left) for n, side in enumerate(corners)]
        color = colors.get(i, _OTHER)
        if i in colors:
            x0, y0, x1, y1 = around
            draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="white", width=5)
        draw.rectangle(around, outline=color, width=3 if i in colors else 1)
        shown.append((example.graph.objects[i], around, color))
    for name, around, color in shown:
        _draw_name(draw, name, around, color)
    return tile


def _draw_name(
    draw: ImageDraw.ImageDraw, name: str, around: Sequence[float], color: tuple[int, int, int]
) -> None:
    """Draw a name on a plate above its box, or inside of it where there is no room above."""
    font = ImageFont.load_default(12)
    width, height = font.getlength(name) + 6, 16
    left = max(0.0, min(around[0], TILE[0] - width))
    top = around[1] - height if around[1] >= height else min(around[1] + 3, TILE[1] - height)
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + 3, top + 1), name, fill="white", font=font)
