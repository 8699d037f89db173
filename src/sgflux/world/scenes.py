"""The bundled world: procedural pictures of named objects in known relations.

Everything but the relation is random: every ordered pair of distinct objects may stand in every
predicate, with random sizes, positions and background, and with random colours from every object's
own range, so that a small model can tell things apart before it can draw them sharply. A scene is
laid out in two steps. Within a connected component, objects are placed one after the other relative
to those that they are related to; the components are then packed side by side or stacked, as large
as they fit. The same generator state gives the same bytes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError
from sgflux.graphs.merging import canonical_statement
from sgflux.graphs.predicates import CANONICAL_PREDICATES, DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, name_of_label
from sgflux.world.icons import COLORS, OBJECT_NAMES, OUTLINE, Color, mix, shade
from sgflux.world.layout import Component, Statement, arrange, connected, pack
from sgflux.world.marks import Place
from sgflux.world.relations import RELATIONS
from sgflux.world.shapes import MAX_STATEMENTS, Shape, shapes_of

PREDICATES: tuple[str, ...] = CANONICAL_PREDICATES
"""The 24 predicates that the world can draw, alphabetical."""

MIN_OBJECT = 11 / 64
"""Longer side below which :func:`sample_scene` draws another scene, as a share of the picture."""

MIN_VISIBLE, MIN_VISIBLE_CONTAINER = 0.45, 0.3
"""Shares of an icon's area that nothing hides in a scene of a given shape. The second one is of an
object that something is in, whose opening alone hides about half of it."""

_TRIES = 40_000
"""Number of random scenes of which :func:`sample_scene` takes the first that has room. Of 24,000
scenes of one to four statements, the one with the least room needed 1,519."""

_SUPERSAMPLING = 4
_MASK_SIZE = 64


@dataclass(frozen=True)
class WorldScene:
    """A picture and the whole truth about it.

    Attributes:
        objects: Names, in order of first mention; twins are two objects of one name.
        relationships: (subject index, canonical predicate, object index) of every triple.
        boxes: one box for each object, in pixels: the icon's whole extent with its outline,
            as if nothing were in front of it.
        image: (resolution, resolution, 3) uint8 RGB.
    """

    objects: tuple[str, ...]
    relationships: tuple[tuple[int, str, int], ...]
    boxes: tuple[Box, ...]
    image: np.ndarray

    def graph(self) -> SceneGraph:
        """Return what it states, in no particular order."""
        return SceneGraph(objects=self.objects, relationships=self.relationships)

    def in_reading_order(self) -> SceneGraph:
        """Return what it states, that first which stands nearer to the top left.

        Without this order a caption of two statements leaves open which of them goes where, and
        half-formed pictures mix the two (measured, see docs/tiny_flux).
        """
        centres = [x + width / 2 + y + height / 2 for x, y, width, height in self.boxes]
        stated = sorted(self.relationships, key=lambda r: centres[r[0]] + centres[r[2]])
        return SceneGraph(objects=self.objects, relationships=tuple(stated))


def render_relationships(
    rng: np.random.Generator,
    relationships: Sequence[tuple[str, str, str]],
    *,
    resolution: int = 64,
) -> WorldScene:
    """Draw given statements; equal names are one object, and ``dog#2`` is another dog.

    Any single triple is drawn faithfully. Of several triples that ask for the same place (``A above
    B; A above C``), the least crowded of some random layouts is drawn.

    Args:
        rng: the only source of randomness.
        relationships: (subject, canonical predicate, object), at least one; objects are names, or
            labels as in :meth:`SceneGraph.labels`.
        resolution: side of the picture in pixels, at least 16.

    Raises:
        SgfluxError: (a ValueError) on an unknown object or predicate, on a triple of an object with
            itself, on no triple at all, and on a resolution below 16.
    """
    _check(relationships, resolution)
    scene = _render(rng, relationships, resolution)
    assert scene is not None, "only a demanding rendering may decline"
    return scene


def sample_scene(
    rng: np.random.Generator,
    *,
    triples: int = 1,
    shape: Shape | None = None,
    predicate: str | None = None,
    pair: tuple[str, str] | None = None,
    excluded_pairs: frozenset[tuple[str, str]] = frozenset(),
    objects: Sequence[str] = OBJECT_NAMES,
    predicates: Sequence[str] = PREDICATES,
    resolution: int = 64,
) -> WorldScene:
    """Draw a random scene in which unrelated objects keep apart and every object is readable.

    Args:
        rng: the only source of randomness.
        triples: Number of triples, 1 to 4. Without a ``shape``, about half of the two-triple scenes
            share one object, and scenes of four triples have any shape without twins.
        shape: Shape of the graph, with ``triples`` statements. Twins are told apart by what the
            graph says of them: if they changed places, it would state something else.
        predicate: canonical predicate of the first triple; random if None.
        pair: (subject name, object name) of the first triple; random if None.
        excluded_pairs: (subject name, object name) that no triple of the scene may have.
        objects: Names that objects may have, at least two for each triple; a given ``pair`` may
            have others.
        predicates: Canonical predicates that random triples may have.
        resolution: side of the picture in pixels, at least 16.

    Raises:
        SgfluxError: (a ValueError) on unknown names, another number of triples, an excluded
            ``pair``; if exclusions leave too few pairs, or no try had room for all objects.
    """
    if triples not in range(1, MAX_STATEMENTS + 1):
        raise SgfluxError(f"triples: expected 1 to {MAX_STATEMENTS}, got {triples!r}")
    if shape is not None and len(shape.edges) != triples:
        raise SgfluxError(f"a {shape.name!r} has {len(shape.edges)} triples, not {triples}")
    if pair is not None and tuple(pair) in excluded_pairs:
        raise SgfluxError(f"pair {pair!r} is one of the excluded pairs")
    subject, target = pair if pair is not None else ("man", "horse")
    _check([(subject, PREDICATES[0] if predicate is None else predicate, target)], resolution)
    if shape is None and triples == MAX_STATEMENTS:
        options = [s for s in shapes_of(triples, twins=False) if has_room(s, predicate or "")]
        shape = options[int(rng.integers(len(options)))]
    sharing = () if shape else tuple(bool(rng.random() < 0.5) for _ in range(triples - 1))
    for _ in range(_TRIES):
        statement = (
            _sample_statement(rng, sharing, predicate, pair, excluded_pairs, objects, predicates)
            if shape is None
            else _sample_shaped(rng, shape, predicate, pair, excluded_pairs, objects, predicates)
        )
        if statement is None:
            continue
        scene = _render(rng, statement, resolution, demanding=triples > 1, shaped=shape is not None)
        if scene is not None:
            return scene
    raise SgfluxError(
        f"no room for {triples} triples with predicate={predicate!r}, pair={pair!r} and "
        f"{len(excluded_pairs)} excluded pairs"
        + (f" in the shape {shape.name!r}" if shape else "")
        + ": exclude fewer pairs or ask for fewer triples"
    )


def has_room(shape: Shape, predicate: str) -> bool:
    """Whether a scene of this shape can have a statement with this predicate.

    The ring of "around/near" leaves no room for three more statements about one of its objects.
    """
    degrees = Counter(itertools.chain(*shape.edges))
    return predicate != "around/near" or max(degrees.values()) < 4


def _check(relationships: Sequence[tuple[str, str, str]], resolution: int) -> None:
    if resolution < 16:
        raise SgfluxError(f"resolution: expected at least 16 pixels, got {resolution!r}")
    if not relationships:
        raise SgfluxError("relationships: expected at least one triple, got none")
    for subject, predicate, target in relationships:
        for name in (subject, target):
            if name_of_label(name) not in OBJECT_NAMES:
                raise SgfluxError(f"unknown object {name!r}: the world has {list(OBJECT_NAMES)}")
        if predicate not in RELATIONS:
            raise SgfluxError(f"unknown predicate {predicate!r}: the world has {list(PREDICATES)}")
        if subject == target:
            raise SgfluxError(f"{subject!r} {predicate} itself: a triple needs two objects")


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _sample_statement(
    rng: np.random.Generator,
    sharing: Sequence[bool],
    predicate: str | None,
    pair: tuple[str, str] | None,
    excluded: frozenset[tuple[str, str]],
    objects: Sequence[str],
    predicates: Sequence[str],
) -> list[tuple[str, str, str]] | None:
    """Draw names and predicates of one scene; None where the exclusions leave no pair."""
    statement: list[tuple[str, str, str]] = []
    used: list[str] = []
    for index in range(len(sharing) + 1):
        free = [name for name in objects if name not in used]
        if index == 0 and pair is not None:
            subject, target = pair
        else:
            pairs = [(first, second) for first in free for second in free if first != second]
            if index and sharing[index - 1]:
                degree = {name: sum(name in (s, o) for s, _, o in statement) for name in used}
                hub = _pick(rng, [name for name in used if degree[name] == 1])
                # most shared scenes say two things about one subject, or chain on from the object
                hub_is_subject = rng.random() < 0.8
                pairs = [(hub, name) if hub_is_subject else (name, hub) for name in free]
            pairs = [names for names in pairs if names not in excluded]
            if not pairs:
                return None
            subject, target = pairs[int(rng.integers(len(pairs)))]
        chosen = predicate if index == 0 and predicate is not None else _pick(rng, predicates)
        statement.append((subject, chosen, target))
        used += [name for name in (subject, target) if name not in used]
    return statement


def _sample_shaped(
    rng: np.random.Generator,
    shape: Shape,
    predicate: str | None,
    pair: tuple[str, str] | None,
    excluded: frozenset[tuple[str, str]],
    objects: Sequence[str] = OBJECT_NAMES,
    predicates: Sequence[str] = PREDICATES,
) -> list[tuple[str, str, str]] | None:
    """Draw labels and predicates of a scene of one shape; None where they do not suit it.

    The first triple is any statement of the shape, in either direction.
    """
    drawn = [shape.edges[i] for i in rng.permutation(len(shape.edges))]
    edges = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in drawn]
    names: dict[int, str] = {}
    if pair is not None:
        names = dict(zip(edges[0], pair, strict=True))
    exchange: dict[int, int] = {}
    if shape.twins is not None:
        exchange = dict((shape.twins, shape.twins[::-1]))
    for index in dict.fromkeys(itertools.chain(*edges)):
        if index not in names:
            free = [name for name in objects if name not in names.values()]
            twin = exchange.get(index, -1)
            names[index] = names[twin] if twin in names else _pick(rng, free)
    if any((names[one], names[other]) in excluded for one, other in edges):
        return None
    drawn_predicates = [_pick(rng, predicates) for _ in edges]
    if predicate is not None:
        drawn_predicates[0] = predicate
    stated = [(a, said, b) for (a, b), said in zip(edges, drawn_predicates, strict=True)]
    if exchange and _canonical(stated) == _canonical(stated, exchange):
        return None
    # In order of mention, the first of two twins has the plain name.
    labels: dict[int, str] = {}
    for index in itertools.chain(*edges):
        if index not in labels:
            again = names[index] in labels.values()
            labels[index] = f"{names[index]}#2" if again else names[index]
    return [(labels[s], said, labels[o]) for s, said, o in stated]


def _canonical(
    stated: Sequence[tuple[int, str, int]], exchange: Mapping[int, int] | None = None
) -> set[tuple[int, str, int]]:
    """Return what is stated, whatever its wording, with objects exchanged."""
    turn = {} if exchange is None else exchange
    return {
        canonical_statement(turn.get(s, s), said, turn.get(o, o), DEFAULT_VOCABULARY)
        for s, said, o in stated
    }


# --- painting -----------------------------------------------------------------------------------


def _render(
    rng: np.random.Generator,
    statement: Statement,
    resolution: int,
    *,
    demanding: bool = False,
    shaped: bool = False,
) -> WorldScene | None:
    """Draw the scene; None if ``demanding`` and things meet that should not, or are too small.

    A scene of a given shape (``shaped``) is None as well if too much of an object is hidden.
    """
    names = list(dict.fromkeys(name for s, _, o in statement for name in (s, o)))
    base = _background_color(rng)
    colors = {name: mix(*COLORS[name_of_label(name)], float(rng.random())) for name in names}
    groups = connected(statement)
    single = len(statement) == 1
    components: list[Component] = []
    for index in rng.permutation(len(groups)):
        tries: list[Component] = []
        for attempt in range(1 if len(groups[index]) == 1 else 12):
            tries.append(
                arrange(
                    rng,
                    groups[index],
                    colors,
                    thick=0.155 if single else 0.17,
                    slack=1.0 if single else 0.8,
                    spread=0.0 if attempt < 4 else float(rng.uniform(0.5, 0.75)),
                    demanding=demanding,
                )
            )
            if not tries[-1].crowding:
                break
        components.append(min(tries, key=lambda component: component.crowding))
        if demanding and components[-1].crowding:
            return None
    scales = pack(rng, components, resolution)
    smallest = min(k * c.smallest for c, (k, _, _) in zip(components, scales, strict=True))
    if demanding and smallest < MIN_OBJECT * resolution:
        return None
    if shaped:
        containers = {target for _, predicate, target in statement if predicate == "in"}
        for name, share in _visible_shares(components, scales, resolution).items():
            if share < (MIN_VISIBLE_CONTAINER if name in containers else MIN_VISIBLE):
                return None
    placed = {
        name: (place, scale)
        for component, scale in zip(components, scales, strict=True)
        for name, place in component.places.items()
    }
    return WorldScene(
        objects=tuple(map(name_of_label, names)),
        relationships=tuple((names.index(s), p, names.index(o)) for s, p, o in statement),
        boxes=tuple(_pixel_box(*placed[name]) for name in names),
        image=_paint(rng, components, scales, base, resolution),
    )


def _visible_shares(
    components: Sequence[Component],
    scales: Sequence[tuple[float, float, float]],
    resolution: int,
) -> dict[str, float]:
    """Return label -> the share of an icon's area that nothing is painted over."""
    names = [name for component in components for name in component.places]
    together, *others = (Image.new("RGB", (_MASK_SIZE, _MASK_SIZE)) for _ in (None, *names))
    alone = dict(zip(names, others, strict=True))
    shrink = _MASK_SIZE / resolution
    for component, (k, x, y) in zip(components, scales, strict=True):
        for name, stroke in component.owned_strokes:
            owner = 0 if name is None else 1 + names.index(name)
            for mask in (together,) if name is None else (together, alone[name]):
                # as colours, owners are the first band of a picture
                painted = replace(stroke, color=(owner, 0, 0))
                painted.paint(ImageDraw.Draw(mask), k * shrink, x * shrink, y * shrink)
    owners = np.asarray(together)[..., 0]
    areas = {name: int(np.asarray(mask)[..., 0].astype(bool).sum()) for name, mask in alone.items()}
    return {
        name: int((owners == index).sum()) / max(1, areas[name])
        for index, name in enumerate(names, start=1)
    }


def _pixel_box(place: Place, scale: tuple[float, float, float]) -> Box:
    k, x, y = scale
    return Box(
        k * (place.left - OUTLINE) + x,
        k * (place.top - OUTLINE) + y,
        k * (place.width + 2 * OUTLINE),
        k * (place.height + 2 * OUTLINE),
    )


def _background_color(rng: np.random.Generator) -> Color:
    """Draw a pale colour of any hue, never as strong as an object's."""
    names = tuple(COLORS)
    hue = COLORS[names[int(rng.integers(len(names)))]][0]
    return shade(hue, float(rng.uniform(0.78, 0.92)))


def _background(rng: np.random.Generator, base: Color, size: int) -> Image.Image:
    """Paint a plain, gradient or ground-line background in low contrast."""
    kind = int(rng.integers(3))
    second = shade(base, -float(rng.uniform(0.05, 0.13)))
    canvas = Image.new("RGB", (size, size), base)
    draw = ImageDraw.Draw(canvas)
    if kind == 1:
        down = rng.random() < 0.5
        for index in range(32):
            low, high = index * size // 32, (index + 1) * size // 32
            band = (0, low, size, high) if down else (low, 0, high, size)
            draw.rectangle(band, fill=mix(base, second, index / 31))
    elif kind == 2:
        draw.rectangle((0, int(rng.uniform(0.3, 0.9) * size), size, size), fill=second)
    return canvas


def _paint(
    rng: np.random.Generator,
    components: Sequence[Component],
    scales: Sequence[tuple[float, float, float]],
    base: Color,
    resolution: int,
) -> np.ndarray:
    """Paint (resolution, resolution, 3) uint8: large first, then averaged down."""
    canvas = _background(rng, base, _SUPERSAMPLING * resolution)
    draw = ImageDraw.Draw(canvas)
    for component, (k, x, y) in zip(components, scales, strict=True):
        scale, dx, dy = k * _SUPERSAMPLING, x * _SUPERSAMPLING, y * _SUPERSAMPLING
        for stroke in component.strokes:
            stroke.paint(draw, scale, dx, dy)
    return np.array(canvas.reduce(_SUPERSAMPLING))
