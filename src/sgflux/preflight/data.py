"""Checks of a data set before anything is encoded or drawn: pictures, boxes and words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sgflux.data.boxes import union_box
from sgflux.data.examples import SceneExample, iter_rows, parse_line, resolve_image
from sgflux.data.images import (
    MAX_PIXELS,
    Crop,
    crop_window,
    load_image,
    squash,
    squash_line,
)
from sgflux.data.pictures import picture_size
from sgflux.data.progress import in_threads
from sgflux.errors import SgfluxError
from sgflux.graphs.names import CONTEXT_MARKS, graph_names

DECODED = 1024
"""Pictures of a data set that are decoded whole; of further ones header and ending are read."""


def check_pictures(
    jsonl: Path,
    examples: Sequence[SceneExample],
    *,
    images_dir: Path,
    crop: Crop,
    height: int,
    width: int,
    progress: bool = False,
) -> str:
    """Look at every picture, and at the boxes that a crop needs.

    Args:
        jsonl: Path of the data set, for messages.
        examples: Examples of the data set.
        images_dir: Folder of the pictures.
        crop: Name of the crop that the pictures get.
        height: Height in pixels to which the pictures are fitted.
        width: Width in pixels to which the pictures are fitted.
        progress: Show a bar on stderr.

    Returns:
        What was looked at.

    Raises:
        SgfluxError: naming the file, the line, what is wrong and the way out.
    """
    by_path: dict[str, list[SceneExample]] = {}
    for example in examples:
        by_path.setdefault(example.image_rel_path, []).append(example)
    if crop == "union":
        _expect_boxes(jsonl, examples)
    names = list(by_path)
    factors: list[float] = []

    def look(place: int) -> str | None:
        rows = by_path[names[place]]
        try:
            size = _size(rows[0], images_dir, whole=place < DECODED)
            if crop == "none":
                factors.append(squash((0, 0, *size), height=height, width=width))
            for row in rows if crop in ("union", "auto") else ():
                if crop == "auto" and row.boxes is None:
                    continue
                box = union_box(row.boxes or ())
                crop_window(size, height=height, width=width, crop=crop, box=box)
        except SgfluxError as error:
            return str(error)
        return None

    looked = in_threads(look, range(len(names)), "pictures", show=progress)
    bad = [(names[place], problem) for place, problem in looked if problem is not None]
    if bad:
        name, problem = bad[0]
        where = _line_of(jsonl, lambda example: example.image_rel_path == name)
        raise SgfluxError(
            f"{where}: {problem}" + _more(len(bad) - 1, "picture") + "; `sgflux data check` "
            "lists every bad picture; repair or take out their rows"
        )
    decoded = "decoded" if len(names) <= DECODED else f"read, {DECODED:,} of them decoded whole"
    boxes = ", all with the boxes that the crop 'union' needs" if crop == "union" else ""
    pictures = "1 picture" if len(names) == 1 else f"{len(names):,} pictures"
    squashed = squash_line(factors, f"{width} x {height}")
    return f"{jsonl}: {pictures} {decoded}{boxes}" + (f"; {squashed}" if squashed else "")


def check_names(
    names: Sequence[str],
    *,
    unreadable: Iterable[tuple[str, SgfluxError]],
    files: Sequence[Path] = (),
) -> str:
    """Check that the text encoder can read every name, and each part of every statement.

    Args:
        names: Names and statements of :func:`~sgflux.graphs.names.graph_names`.
        unreadable: Those of them that the text encoder cannot read, each with the error.
        files: Data sets that have the names, for the message.

    Returns:
        What was looked at.

    Raises:
        SgfluxError: naming the word, the line that has it, and the way out.
    """
    bad = list(unreadable)
    if bad:
        name, problem = bad[0]
        lines = [line for path in files if (line := _line_of(path, _says(name))) != str(path)]
        where = f"{lines[0]}: " if lines else f"{files[0]}: " if files else ""
        raise SgfluxError(
            f"{where}{problem}"
            + _more(len(bad) - 1, "name or statement")
            + "; word it otherwise, or take out what says it"
        )
    return f"{len(names):,} names and statements tokenised"


def _expect_boxes(jsonl: Path, examples: Sequence[SceneExample]) -> None:
    without = [example for example in examples if not example.boxes]
    if without:
        first = without[0]
        where = _line_of(
            jsonl, lambda row: not row.boxes and row.image_rel_path == first.image_rel_path
        )
        raise SgfluxError(
            f"{where}: the row of {first.image_rel_path} has no boxes, which the crop 'union' needs"
            + _more(len(without) - 1, "row")
            + "; use the crop 'auto' or 'center', or add \"boxes\", one for each object"
        )


def _size(example: SceneExample, images_dir: Path, *, whole: bool) -> tuple[int, int]:
    path = resolve_image(example, images_dir)
    if whole:
        return load_image(path).size
    width, height = picture_size(path)
    if width * height > MAX_PIXELS:
        raise SgfluxError(
            f"the picture {str(path)!r} is of no use: it has {width} x {height} pixels, more than "
            f"{MAX_PIXELS}"
        )
    return width, height


def _says(name: str) -> Callable[[SceneExample], bool]:
    """Whether an example's graph asks for the features of a name."""
    opened, closed = CONTEXT_MARKS
    plain = name.replace(opened, "").replace(closed, "")

    def says(example: SceneExample) -> bool:
        own = graph_names([example.graph])
        return any(one.replace(opened, "").replace(closed, "") == plain for one in own)

    return says


def _line_of(jsonl: Path, is_meant: Callable[[SceneExample], bool]) -> str:
    """The file and the line of the first example that is meant; the file alone if none is."""
    for number, content in iter_rows(jsonl):
        try:
            if is_meant(parse_line(content, open_vocabulary=True)):
                return f"{jsonl}:{number}"
        except SgfluxError:
            continue
    return str(jsonl)


def _more(count: int, what: str) -> str:
    if not count:
        return ""
    return f" (and {count:,} more {what}{'' if count == 1 else 's'})"
