"""The pictures of the report: the same noise in several arms, side by side, with what was read."""

from __future__ import annotations

import base64
import io
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image

from sgflux.data.boxes import Box
from sgflux.data.files import resolve_path
from sgflux.data.images import load_image
from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.drawing import CHANGED_SINCE, pixels_digest
from sgflux.evaluation.judges.judge import pair_of, predicate_of
from sgflux.evaluation.report.data import Evaluation, Picture
from sgflux.graphs.predicates import CANONICAL_PREDICATES
from sgflux.graphs.scene_graph import SceneGraph, Triple

LARGEST_SIDE = 288
"""Larger pictures are scaled down to it."""
SMALL_SIDE = 128
"""Up to this size a picture is drawn by a procedure: its pixels stay sharp when enlarged."""

Item = Mapping[Arm, Picture]

ARMS = {
    Arm.BASE_NEUTRAL: "base",
    Arm.BASE_RELATIONAL: "base, told in words",
    Arm.NULL_GRAPH: "adapter, no graph",
    Arm.GRAPH: "adapter, true graph",
    Arm.NEGATIVE_GRAPH: "adapter, negative graph",
    Arm.SHUFFLED_GRAPH: "adapter, another graph",
    Arm.CONTRADICTION: "adapter, true graph, false text",
}
"""Arm -> its name below a picture, in the order of a panel."""

CHOICES = {
    "first": "the first of each predicate",
    "best": "best with the true graph",
    "worst": "worst with the true graph",
    "random": "at random",
    "several": "several statements",
}
"""Ways in which items are chosen for a panel; nobody chooses one for its looks."""

RANDOM_SEED = 0
"""Seed of the items that are chosen at random, and between items that are equally good."""


@dataclass(frozen=True)
class Mark:
    """What is said of one statement below a picture.

    Attributes:
        statement: The statement.
        right: Whether it holds.
        words: The relation that the judge names, or its verdict if it names none.
        follows: "graph", "text" or "neither", where text and graph disagree; else empty.
    """

    statement: Triple
    right: bool
    words: str
    follows: str = ""


@dataclass(frozen=True)
class Embedded:
    """A picture within the page.

    Attributes:
        source: Data URI.
        is_small: Whether its pixels stay sharp when it is enlarged.
        width: Width in pixels of the file.
        height: Height in pixels of the file.
    """

    source: str
    is_small: bool
    width: int
    height: int


@dataclass(frozen=True)
class Shown:
    """A picture of a panel.

    Attributes:
        name: Name of the arm.
        image: The picture; None if it is not at hand.
        is_chief: Whether it is the picture under the true graph.
        told: Statements of a graph that is not the item's.
        text: A text that is not the panel's; else empty.
        marks: Verdicts of the judge.
        boxes: Label of an object that the judge found -> its box in pixels of the file.
        path: The picture's file, below the evaluation's folder.
    """

    name: str
    image: Embedded | None
    is_chief: bool = False
    told: Sequence[Triple] = ()
    text: str = ""
    marks: Sequence[Mark] = ()
    boxes: Mapping[str, Box] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class Panel:
    """Pictures of one item from the same noise.

    Attributes:
        row: Place of the item in the test file, from 0.
        seed: Seed of the noise; None in results of earlier versions.
        statements: Statements of the graph.
        predicates: Canonical predicates of the statements.
        prompt: The text.
        choices: Keys of :data:`CHOICES` by which the item is shown.
        outcomes: Verdicts on its statements under the true graph.
        pictures: The real picture and one picture an arm.
    """

    row: int
    seed: int | None
    statements: Sequence[Triple]
    predicates: Sequence[str]
    prompt: str
    choices: Sequence[str]
    outcomes: Sequence[str]
    pictures: Sequence[Shown]


def panels(evaluation: Evaluation, *, each: int = 6) -> list[Panel]:
    """The items that are shown, in the order of the test set.

    Args:
        evaluation: The evaluation.
        each: Number of items of every choice; of the first of each predicate, all are shown.
    """
    return [
        _panel(evaluation, evaluation.items[row], choices)
        for row, choices in sorted(_choose(evaluation, each).items())
    ]


def _choose(evaluation: Evaluation, each: int) -> dict[int, list[str]]:
    """Row -> the choices by which it is shown."""
    statements = {row: _any(item).statements for row, item in evaluation.items.items()}
    first: dict[str, int] = {}
    for single in (True, False):  # preferably items of one statement
        for row, own in statements.items():
            if single == (len(own) == 1):
                first.setdefault(predicate_of(own[0]), row)
    shuffled = random.Random(RANDOM_SEED).sample(list(statements), len(statements))
    goodness = {
        row: (
            fmean(said.holds for said in graph.own.values()),
            fmean(said.score or 0.0 for said in graph.own.values()),
        )
        for row in shuffled
        if (graph := evaluation.items[row].get(Arm.GRAPH)) is not None and graph.own
    }
    best = sorted(goodness, key=lambda row: goodness[row], reverse=True)
    several = [row for row in shuffled if len(statements[row]) > 1]
    chosen: dict[int, list[str]] = defaultdict(list)
    for choice, rows in (
        ("first", [first[name] for name in sorted(first)[: len(CANONICAL_PREDICATES)]]),
        ("best", best[:each]),
        ("worst", best[::-1][:each]),
        ("random", shuffled[:each]),
        ("several", several[:each]),
    ):
        for row in rows:
            chosen[row].append(choice)
    return chosen


def _panel(evaluation: Evaluation, item: Item, choices: Sequence[str]) -> Panel:
    any_one, graph = _any(item), item.get(Arm.GRAPH)
    return Panel(
        row=any_one.row,
        seed=any_one.seed,
        statements=any_one.statements,
        predicates=any_one.predicates,
        prompt=any_one.prompt,
        choices=choices,
        outcomes=sorted({str(said.outcome) for said in graph.own.values()} if graph else ()),
        pictures=[
            _real(evaluation, item),
            *(_shown(evaluation, item[arm]) for arm in ARMS if arm in item),
        ],
    )


def _shown(evaluation: Evaluation, picture: Picture) -> Shown:
    told: Sequence[Triple] = ()
    judged: Sequence[Triple] = picture.statements
    follows = ""
    if picture.arm is Arm.NEGATIVE_GRAPH:
        told = judged = [changed_statement(picture)]
    elif picture.arm is Arm.SHUFFLED_GRAPH:
        assert picture.graph is not None, "the arm has a graph"
        told = judged = picture.graph.labelled_triples()
    elif picture.arm is Arm.CONTRADICTION:
        judged = [contradicted_statement(picture)]
        follows = _follows(picture, judged[0])
    return Shown(
        name=ARMS[picture.arm],
        image=embedded(picture.path, pixels=picture.pixels),
        is_chief=picture.arm is Arm.GRAPH,
        told=told,
        text=picture.prompt if picture.arm.prompt_kind == "relational" else "",
        marks=[
            Mark(triple, said.holds, said.words, follows)
            for triple in judged
            if (said := picture.said.get(triple)) is not None
        ],
        boxes=picture.boxes,
        path=str(picture.path.relative_to(evaluation.folder)),
    )


def _follows(picture: Picture, stated: Triple) -> str:
    """Whether a picture shows the relation of its graph, that of its text, or neither."""
    if (said := picture.said.get(stated)) is not None and said.holds:
        return "graph"
    in_text = any(
        said.holds and pair_of(triple) == pair_of(stated) and _in_text(triple, picture.prompt)
        for triple, said in picture.said.items()
    )
    return "text" if in_text else "neither"


# --- what is said below a picture ---------------------------------------------------------------


def changed_statement(picture: Picture) -> Triple:
    """What the picture's graph states and its item does not; the first statement if all agree."""
    assert picture.graph is not None, "the arm has a graph"
    triples = picture.graph.labelled_triples()
    return next((triple for triple in triples if triple not in picture.statements), triples[0])


def contradicted_statement(picture: Picture) -> Triple:
    """What the picture's graph states and its text does not."""
    assert picture.graph is not None, "the arm has a graph"
    triples = picture.graph.labelled_triples()
    return next((t for t in triples if not _in_text(t, picture.prompt)), triples[0])


def _in_text(triple: Triple, prompt: str) -> bool:
    words = prompts_for_graph(SceneGraph.from_triple(triple), "relational")
    return words.removeprefix("a photo of ").casefold() in prompt.casefold()


# --- pictures -----------------------------------------------------------------------------------


def _real(evaluation: Evaluation, item: Item) -> Shown:
    """The data set's own picture, or none if it has been moved away since."""
    relative = _any(item).image_rel_path
    try:
        path = resolve_path(relative, evaluation.images_dir)
        image = embedded(path) if path.is_file() else None
    except SgfluxError:
        image = None
    return Shown("real picture", image, path=relative)


def embedded(path: Path, *, pixels: str | None = None) -> Embedded:
    """A picture for the page.

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
    width, height = image.size
    small = max(width, height) <= SMALL_SIDE
    content = io.BytesIO()
    if small:
        image.save(content, format="PNG", optimize=True)
    else:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        image.save(content, format="JPEG", quality=84)
    kind = "png" if small else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    return Embedded(source, small, width, height)


def _any(item: Item) -> Picture:
    """A picture of the item, preferably one with the neutral text."""
    return item.get(Arm.GRAPH) or item.get(Arm.BASE_NEUTRAL) or next(iter(item.values()))
