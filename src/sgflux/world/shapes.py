"""Shapes of graphs: who shares objects with whom, whatever the objects and predicates are.

A shape is a graph without directions, predicates and names; it keeps which two objects are *twins*,
that is, have one name. Equal shapes have equal names in words. The bundled world draws shapes
without rings, of up to four statements and at most one pair of twins, which no statement relates to
each other:

    pair                            one statement
    chain of 3                      A-B, B-C, C-D
    star of 3                       A-B, A-C, A-D
    fork of 4                       A-B, A-C, A-D, D-E
    2 pairs + chain of 2            A-B, C-D, E-F, F-G
    fork of 4 with twins: end and end, 2 apart      B and C of the fork have one name
"""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph

MAX_STATEMENTS = 4
"""Largest number of statements in a scene of the bundled world."""

Edge = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """One shape, with its objects numbered.

    Attributes:
        edges: The two objects of every statement.
        twins: The two objects that have one name, or None.
    """

    edges: tuple[Edge, ...]
    twins: Edge | None = None

    @property
    def name(self) -> str:
        """The shape in words."""
        groups = () if self.twins is None else (self.twins,)
        return _in_words(self.edges, groups)


def shape_of(graph: SceneGraph) -> str:
    """Return the shape of any graph in words; objects without a statement do not belong to it.

    The names of shapes that the bundled world draws are unique. Larger shapes, and those with
    rings, are named by how many statements each object has, and several shapes may share a name.
    """
    edges = [(subject, object_) for subject, _, object_ in graph.relationships]
    alike: dict[str, list[int]] = {}
    for index in dict.fromkeys(itertools.chain.from_iterable(edges)):
        alike.setdefault(graph.objects[index].casefold(), []).append(index)
    return _in_words(edges, [group for group in alike.values() if len(group) > 1])


@cache
def shapes_of(statements: int, *, twins: bool) -> tuple[Shape, ...]:
    """Return every shape of so many statements that the world draws, without or with twins.

    Args:
        statements: Number of statements, from 1 to :data:`MAX_STATEMENTS`.
        twins: Whether the shapes have a pair of twins. A single statement has none.
    """
    grown = {"pair": Shape(((0, 1),))}
    for _ in range(statements - 1):
        larger: dict[str, Shape] = {}
        for shape in grown.values():
            new = 1 + max(itertools.chain(*shape.edges))
            for edge in (*((old, new) for old in range(new)), (new, new + 1)):
                one = Shape((*shape.edges, edge))
                larger.setdefault(one.name, one)
        grown = larger
    if not twins:
        return tuple(grown.values())
    with_twins: dict[str, Shape] = {}
    for shape in grown.values():
        objects = range(1 + max(itertools.chain(*shape.edges)))
        for pair in itertools.combinations(objects, 2):
            if pair not in shape.edges:
                one = Shape(shape.edges, pair)
                with_twins.setdefault(one.name, one)
    return tuple(with_twins.values())


def shape_name(given: str) -> str:
    """Return the name of a shape that is given by its name or as the text of a graph that has it.

    Raises:
        SgfluxError: if it is neither.
    """
    names = {
        shape.name
        for size in range(1, MAX_STATEMENTS + 1)
        for with_twins in (False, True)
        for shape in shapes_of(size, twins=with_twins)
    }
    if given in names:
        return given
    try:
        return shape_of(SceneGraph.parse(given))
    except SgfluxError as error:
        near = difflib.get_close_matches(given, sorted(names))
        raise SgfluxError(
            f"hold_out_shapes: {given!r} is neither the text of a graph ({error}) nor the name of "
            f"a shape; near are {near or sorted(names)[:3]}, and the text of any graph of up to "
            f"{MAX_STATEMENTS} statements names its shape"
        ) from error


def _in_words(edges: Sequence[Edge], alike: Sequence[Sequence[int]]) -> str:
    """Name a shape; ``alike`` are the groups of objects of one name."""
    parts = _connected(edges)
    names = {part: _part_name(part) for part in parts}
    counts = sorted(Counter(names.values()).items(), key=lambda entry: (len(entry[0]), entry[0]))
    words = " + ".join(name if n == 1 else f"{n} {_plural(name)}" for name, n in counts)
    if not alike:
        return words
    degree = Counter(itertools.chain(*edges))

    def role(index: int) -> str:
        kind = {1: "end", 2: "middle"}.get(degree[index], "hub")
        (part,) = (part for part in parts if any(index in edge for edge in part))
        return kind if len(parts) == 1 else f"{kind} of {names[part]}"

    said = []
    for group in alike:
        where = " and ".join(sorted(map(role, group)))
        if len(group) == 2:
            apart = _distance(edges, *group)
            where += ", in two groups" if apart is None else f", {apart} apart"
        said.append(where)
    return f"{words} with twins: {'; '.join(sorted(said))}"


def _plural(name: str) -> str:
    first, _, rest = name.partition(" ")
    return f"{first}s {rest}".rstrip()


def _part_name(part: Sequence[Edge]) -> str:
    """Name a connected shape by its number of statements and the degrees of its objects."""
    degrees = sorted(Counter(itertools.chain(*part)).values(), reverse=True)
    count = len(part)
    if len(degrees) == count + 1:  # no rings
        if count == 1:
            return "pair"
        if degrees[0] == 2:
            return f"chain of {count}"
        if degrees[0] == count:
            return f"star of {count}"
        if count == 4:
            return "fork of 4"
    return f"group of {count} with degrees {'-'.join(map(str, degrees))}"


def _connected(edges: Sequence[Edge]) -> list[tuple[Edge, ...]]:
    parts: list[tuple[Edge, ...]] = []
    for edge in edges:
        touching = [part for part in parts if set(edge) & set(itertools.chain(*part))]
        parts = [part for part in parts if part not in touching]
        parts.append((*itertools.chain(*touching), edge))
    return parts


def _distance(edges: Sequence[Edge], start: int, end: int) -> int | None:
    """Return the number of statements between two objects; None where none connect them."""
    reached, steps = {start}, 0
    while end not in reached:
        further = reached.union(*(edge for edge in edges if reached & set(edge)))
        if further == reached:
            return None
        reached, steps = further, steps + 1
    return steps
