"""The pictures of the report: the same noise in several arms, side by side, with what was read."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sgflux.data.files import resolve_path
from sgflux.data.images import load_image
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.drawing import CHANGED_SINCE, pixels_digest
from sgflux.evaluation.judges.judge import NONE, pair_of
from sgflux.evaluation.report.data import Evaluation, Picture
from sgflux.graphs.predicates import CANONICAL_PREDICATES
from sgflux.graphs.scene_graph import SceneGraph, Triple

LARGEST_SIDE = 288
"""Larger pictures are scaled down to it."""
SMALL_SIDE = 128
"""Up to this size a picture is drawn by a procedure: its pixels stay sharp when enlarged."""

Item = Mapping[Arm, Picture]


@dataclass(frozen=True)
class Mark:
    """What is said of one statement below a picture.

    Attributes:
        right: Whether the statement holds.
        relation: The relation that the judge names, or its verdict if it names none.
        follows: "graph", "text" or "neither", where text and graph disagree; else empty.
    """

    right: bool
    relation: str
    follows: str = ""


@dataclass(frozen=True)
class Shown:
    """A picture of a panel.

    Attributes:
        name: Name of the arm.
        source: The picture as a data URI; None if it is not at hand.
        small: Whether its pixels stay sharp when it is enlarged.
        chief: Whether it is the picture under the true graph.
        stated: A statement that the caption names, or None.
        marks: Verdicts of the judge.
    """

    name: str
    source: str | None
    small: bool = False
    chief: bool = False
    stated: Triple | None = None
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Panel:
    """Pictures of one item from the same noise.

    Attributes:
        statements: Statements of the graph.
        prompt: The text.
        pictures: The real picture, if it is shown, and one picture an arm.
    """

    statements: Sequence[Triple]
    prompt: str
    pictures: Sequence[Shown]


def predicate_panels(evaluation: Evaluation) -> list[Panel]:
    """One item of each predicate: the real picture, base, no graph, g⁺ and g⁻.

    The item is the first of its predicate in the test set, preferably one with a single statement:
    nobody has chosen it for its looks.
    """
    chosen: dict[str, Item] = {}
    for single in (True, False):
        for item in evaluation.items.values():
            statements = _any(item).statements
            if single == (len(statements) == 1):
                chosen.setdefault(statements[0].predicate, item)
    return [
        _predicate_panel(evaluation, chosen[name])
        for name in sorted(chosen)[: len(CANONICAL_PREDICATES)]
    ]


def _predicate_panel(evaluation: Evaluation, item: Item) -> Panel:
    statements = _any(item).statements
    arms = {Arm.BASE_NEUTRAL: "base", Arm.NULL_GRAPH: "no graph", Arm.GRAPH: "g⁺"}
    pictures = [_real(evaluation, item), *_in_arms(item, arms, statements[:1])]
    if Arm.NEGATIVE_GRAPH in item:
        changed = changed_statement(item[Arm.NEGATIVE_GRAPH])
        (shown,) = _in_arms(item, {Arm.NEGATIVE_GRAPH: "g⁻"}, [changed])
        pictures.append(replace(shown, stated=changed))
    return Panel(statements, _any(item).prompt, pictures)


def several_panels(evaluation: Evaluation, *, limit: int = 8) -> list[Panel]:
    """The first items with two or more statements, of different predicates."""
    arms = {Arm.BASE_NEUTRAL: "base", Arm.BASE_RELATIONAL: "base, in words", Arm.GRAPH: "g⁺"}
    items = [item for item in evaluation.items.values() if len(_any(item).statements) > 1]
    return [
        Panel(
            (statements := _any(item).statements),
            _any(item).prompt,
            [_real(evaluation, item), *_in_arms(item, arms, statements)],
        )
        for item in _varied(items, limit)
    ]


def contradiction_panels(evaluation: Evaluation, *, limit: int = 8) -> list[Panel]:
    """The first items whose text states another predicate than their graph, of different ones."""
    items = [item for item in evaluation.items.values() if Arm.CONTRADICTION in item]
    return [_contradiction_panel(item) for item in _varied(items, limit)]


def _contradiction_panel(item: Item) -> Panel:
    picture = item[Arm.CONTRADICTION]
    stated = contradicted_statement(picture)
    arms = {Arm.BASE_NEUTRAL: "base", Arm.GRAPH: "g⁺, neutral text", picture.arm: "g⁺, this text"}
    *others, shown = _in_arms(item, arms, [stated])
    in_text = any(
        said.holds and pair_of(triple) == pair_of(stated) and _in_text(triple, picture.prompt)
        for triple, said in picture.said.items()
    )
    marks = [
        replace(mark, follows="graph" if mark.right else "text" if in_text else "neither")
        for mark in shown.marks
    ]
    return Panel([stated], picture.prompt, [*others, replace(shown, marks=marks)])


# --- what is said below a picture ---------------------------------------------------------------


def changed_statement(picture: Picture) -> Triple:
    """What the picture's graph states and its item does not; the first statement if all agree."""
    assert picture.graph is not None, "the arm has a graph"
    triples = picture.graph.triples()
    return next((triple for triple in triples if triple not in picture.statements), triples[0])


def contradicted_statement(picture: Picture) -> Triple:
    """What the picture's graph states and its text does not."""
    assert picture.graph is not None, "the arm has a graph"
    triples = picture.graph.triples()
    return next((t for t in triples if not _in_text(t, picture.prompt)), triples[0])


def _in_text(triple: Triple, prompt: str) -> bool:
    words = prompts_for_graph(SceneGraph.from_triple(triple), "relational")
    return words.removeprefix("a photo of ").casefold() in prompt.casefold()


# --- pictures -----------------------------------------------------------------------------------


def _real(evaluation: Evaluation, item: Item) -> Shown:
    """The data set's own picture, or none if it has been moved away since."""
    try:
        path = resolve_path(_any(item).image_rel_path, evaluation.images_dir)
        return Shown("real", *embedded(path)) if path.is_file() else Shown("real", None)
    except SgfluxError:
        return Shown("real", None)


def _in_arms(item: Item, arms: Mapping[Arm, str], statements: Sequence[Triple]) -> list[Shown]:
    """The item's pictures in some arms, each with the verdicts on the statements."""
    return [
        Shown(
            name,
            *embedded(picture.path, pixels=picture.pixels),
            chief=arm is Arm.GRAPH,
            marks=[
                Mark(said.holds, "no relation" if said.words == NONE else said.words)
                for triple in statements
                if (said := picture.said.get(triple)) is not None
            ],
        )
        for arm, name in arms.items()
        if (picture := item.get(arm)) is not None
    ]


def embedded(path: Path, *, pixels: str | None = None) -> tuple[str, bool]:
    """A picture as a data URI, and whether it is small.

    Args:
        path: the picture's file.
        pixels: SHA-256 of its pixels when it was judged; None: it is not compared.

    Raises:
        SgfluxError: naming the file, if it is missing or damaged, or is not the picture that was
            judged.
    """
    image = load_image(path)
    if pixels not in (None, pixels_digest(np.asarray(image))):
        raise SgfluxError(f"{path} {CHANGED_SINCE}")
    small = max(image.size) <= SMALL_SIDE
    content = io.BytesIO()
    if small:
        image.save(content, format="PNG", optimize=True)
    else:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        image.save(content, format="JPEG", quality=86)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}", small


def _any(item: Item) -> Picture:
    """A picture of the item, preferably one with the neutral text."""
    return item.get(Arm.GRAPH) or item.get(Arm.BASE_NEUTRAL) or next(iter(item.values()))


def _varied(items: Sequence[Item], limit: int) -> list[Item]:
    """The first items of the test set with as many different predicates as possible."""
    turn: Counter[str] = Counter()
    ranked = []
    for place, item in enumerate(items):
        predicate = _any(item).statements[0].predicate
        ranked.append((turn[predicate], place))
        turn[predicate] += 1
    return [items[place] for _, place in sorted(ranked)[:limit]]
