"""The pictures of the report: the same noise in several arms, side by side, with what was read."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
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


def predicate_panels(evaluation: Evaluation, *, limit: int = len(CANONICAL_PREDICATES)) -> str:
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
    return _panels(_predicate_panel(evaluation, chosen[name]) for name in sorted(chosen)[:limit])


def _predicate_panel(evaluation: Evaluation, item: Item) -> str:
    statements = _any(item).statements
    arms = {Arm.BASE_NEUTRAL: "base", Arm.NULL_GRAPH: "no graph", Arm.GRAPH: "g⁺"}
    figures = [_real(evaluation, item), *_in_arms(item, arms, statements[:1])]
    if Arm.NEGATIVE_GRAPH in item:
        picture = item[Arm.NEGATIVE_GRAPH]
        changed = changed_statement(picture)
        caption = f"{_words(changed)}<br>{_verdict(picture, changed)}"
        figures.append(_drawn(picture, "g⁻", caption))
    return _panel(
        f"graph: {_graph_text(statements)}", f"text: “{escape(_any(item).prompt)}”", figures
    )


def several_panels(evaluation: Evaluation, *, limit: int = 8) -> str:
    """The first items with two or more statements, of different predicates."""
    items = [item for item in evaluation.items.values() if len(_any(item).statements) > 1]
    return _panels(_several_panel(evaluation, item) for item in _varied(items, limit))


def _several_panel(evaluation: Evaluation, item: Item) -> str:
    statements = _any(item).statements
    arms = {Arm.BASE_NEUTRAL: "base", Arm.BASE_RELATIONAL: "base, in words", Arm.GRAPH: "g⁺"}
    figures = [_real(evaluation, item), *_in_arms(item, arms, statements)]
    return _panel(
        f"graph: {_graph_text(statements)}", f"text: “{escape(_any(item).prompt)}”", figures
    )


def contradiction_panels(evaluation: Evaluation, *, limit: int = 8) -> str:
    """The first items whose text states another predicate than their graph, of different ones."""
    items = [item for item in evaluation.items.values() if Arm.CONTRADICTION in item]
    return _panels(_contradiction_panel(item) for item in _varied(items, limit))


def _contradiction_panel(item: Item) -> str:
    picture = item[Arm.CONTRADICTION]
    stated = contradicted_statement(picture)
    said = picture.said.get(stated)
    of_pair = [triple for triple in picture.said if pair_of(triple) == pair_of(stated)]
    if said is None:
        outcome = ""
    elif said.holds:
        outcome = f'<span class="right">follows the graph</span> ({escape(said.words)})'
    elif any(picture.said[other].holds and _in_text(other, picture.prompt) for other in of_pair):
        outcome = f'<span class="wrong">follows the text</span> ({escape(said.words)})'
    else:
        outcome = f'<span class="wrong">follows neither</span> ({_relation(said.words)})'
    arms = {Arm.BASE_NEUTRAL: "base", Arm.GRAPH: "g⁺, neutral text"}
    figures = [*_in_arms(item, arms, [stated]), _drawn(picture, "g⁺, this text", outcome)]
    return _panel(f"graph: {_words(stated)}", f"text: “{escape(picture.prompt)}”", figures)


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


def _verdict(picture: Picture, triple: Triple) -> str:
    said = picture.said.get(triple)
    if said is None:
        return ""
    if said.holds:
        return f'<span class="right" title="the judge agrees">✓</span>&nbsp;{_relation(said.words)}'
    return f'<span class="wrong" title="the judge disagrees">✗</span>&nbsp;{_relation(said.words)}'


def _relation(read: str) -> str:
    return "no relation" if read == NONE else escape(read)


def _words(triple: Triple) -> str:
    return f"{escape(triple.subject)} <em>{escape(triple.predicate)}</em> {escape(triple.object)}"


def _graph_text(statements: Sequence[Triple]) -> str:
    return "; ".join(map(_words, statements))


# --- pictures -----------------------------------------------------------------------------------


def _panels(panels: Iterable[str]) -> str:
    joined = "".join(panels)
    return f'<div class="panels">{joined}</div>' if joined else ""


def _panel(statement: str, prompt: str, figures: Sequence[str]) -> str:
    return (
        f'<article class="panel"><p class="statement">{statement}</p><p class="prompt">{prompt}</p>'
        f'<div class="strip">{"".join(figures)}</div></article>'
    )


def _real(evaluation: Evaluation, item: Item) -> str:
    """The data set's own picture, or a word in its place if it has been moved away since."""
    nothing = "<figure><figcaption><span class='arm'>real</span>not at hand</figcaption></figure>"
    try:
        path = resolve_path(_any(item).image_rel_path, evaluation.images_dir)
        return _figure(path, "real", "", chief=False) if path.is_file() else nothing
    except SgfluxError:
        return nothing


def _in_arms(item: Item, arms: Mapping[Arm, str], statements: Sequence[Triple]) -> list[str]:
    """The item's pictures in some arms, each with the verdicts on the statements."""
    return [
        _drawn(item[arm], name, "<br>".join(_verdict(item[arm], triple) for triple in statements))
        for arm, name in arms.items()
        if arm in item
    ]


def _drawn(picture: Picture, name: str, caption: str) -> str:
    chief = picture.arm is Arm.GRAPH
    return _figure(picture.path, name, caption, chief=chief, pixels=picture.pixels)


def _figure(path: Path, name: str, caption: str, *, chief: bool, pixels: str | None = None) -> str:
    source, small = embedded(path, pixels=pixels)
    style = ' class="chief"' if chief else ""
    look = ' class="pixels"' if small else ""
    return (
        f'<figure{style}><img{look} src="{source}" alt="{escape(name)}" loading="lazy">'
        f'<figcaption><span class="arm">{escape(name)}</span>{caption}</figcaption></figure>'
    )


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
