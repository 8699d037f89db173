"""What a person has drawn: a graph whose objects have places, and the way back to earlier ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError, name_of_label

_COLUMNS, _WIDE, _HIGH = 2, 230, 95  # pixels between two objects that nobody has placed
MAX_OBJECTS = 40
"""More objects are refused: no encoder reads that many."""


@dataclass(frozen=True)
class Node:
    """An object of a sketch.

    Attributes:
        id: Name by which edges call it.
        name: Name of the object in the graph.
        x, y: Place of its upper left corner in pixels.
    """

    id: str
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Edge:
    """A relationship of a sketch, between the ids of two nodes."""

    source: str
    predicate: str
    target: str


@dataclass(frozen=True)
class Sketch:
    """A graph with a place for each object.

    Attributes:
        nodes: Objects, in the graph's order.
        edges: Relationships, in the graph's order.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Sketch:
        """Read what the browser sends; :meth:`to_json` writes it.

        Raises:
            SceneGraphError: if it is no sketch.
        """
        try:
            nodes = tuple(
                Node(str(one["id"]), name_of_label(str(one["name"]).strip()), *_place(one))
                for one in value["nodes"]
            )
            edges = tuple(
                Edge(str(one["source"]), str(one["predicate"]), str(one["target"]))
                for one in value["edges"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SceneGraphError(f"the browser sent no sketch: {error}") from error
        if len(nodes) > MAX_OBJECTS:
            raise SceneGraphError(f"a sketch has at most {MAX_OBJECTS} objects, got {len(nodes)}")
        ids = {node.id for node in nodes}
        if len(ids) < len(nodes) or not ids.issuperset(
            end for edge in edges for end in (edge.source, edge.target)
        ):
            raise SceneGraphError("the browser sent a sketch whose ids do not go together")
        return cls(nodes, edges)

    def to_json(self) -> dict[str, Any]:
        """Return the sketch as plain JSON."""
        return {
            "nodes": [vars(node) for node in self.nodes],
            "edges": [vars(edge) for edge in self.edges],
        }

    def graph(self) -> SceneGraph:
        """Return the graph.

        Raises:
            SceneGraphError: if it states something twice, or a name is empty.
        """
        index = {node.id: number for number, node in enumerate(self.nodes)}
        return SceneGraph(
            objects=tuple(node.name for node in self.nodes),
            relationships=tuple(
                (index[edge.source], edge.predicate, index[edge.target]) for edge in self.edges
            ),
        )

    def with_graph(self, graph: SceneGraph) -> Sketch:
        """Return a sketch of another graph, in which objects of the same label keep their place.

        Raises:
            SceneGraphError: if the graph has too many objects.
        """
        if len(graph.objects) > MAX_OBJECTS:
            raise SceneGraphError(
                f"a sketch has at most {MAX_OBJECTS} objects, got {len(graph.objects)}"
            )
        own = SceneGraph(objects=tuple(node.name for node in self.nodes), relationships=())
        kept = dict(zip(map(str.casefold, own.labels()), self.nodes, strict=True))
        old = [kept.get(label.casefold()) for label in graph.labels()]
        taken = {node.id for node in old if node is not None}
        nodes: list[Node] = []
        for name, before in zip(graph.objects, old, strict=True):
            if before is not None:
                nodes.append(Node(before.id, name, before.x, before.y))
                continue
            number = next(i for i in range(1, 2 * MAX_OBJECTS + 1) if f"n{i}" not in taken)
            taken.add(f"n{number}")
            others = [*nodes, *(node for node in old if node is not None)]
            nodes.append(Node(f"n{number}", name, *_free_place(others)))
        edges = tuple(Edge(nodes[s].id, name, nodes[o].id) for s, name, o in graph.relationships)
        return Sketch(tuple(nodes), edges)


def _place(value: Mapping[str, Any]) -> tuple[float, float]:
    x, y = float(value["x"]), float(value["y"])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"a place must be finite, got {x}, {y}")
    return x, y


def _free_place(nodes: list[Node]) -> tuple[float, float]:
    """The first place of a grid that is free."""
    for number in range(len(nodes) * 9 + 1):
        x = float(_WIDE * (number % _COLUMNS))
        y = float(_HIGH * (number // _COLUMNS) + (40 if number % 2 else 0))
        if all(abs(node.x - x) >= _WIDE * 0.7 or abs(node.y - y) >= _HIGH * 0.8 for node in nodes):
            return x, y
    raise SgfluxError("there is no free place for another object")


@dataclass
class Timeline:
    """The sketch of today, those before it, and those that were undone.

    Attributes:
        now: The sketch of today.
    """

    now: Sketch = field(default_factory=Sketch)
    _past: list[Sketch] = field(default_factory=list)
    _future: list[Sketch] = field(default_factory=list)

    def draw(self, sketch: Sketch) -> bool:
        """Go on with another sketch; returns whether it is another one."""
        if sketch == self.now:
            return False
        self._past = [*self._past[-199:], self.now]
        self._future.clear()
        self.now = sketch
        return True

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier sketch."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether a sketch was undone."""
        return bool(self._future)

    def undo(self) -> None:
        """Go back to the sketch before, if there is one."""
        if self._past:
            self._future.append(self.now)
            self.now = self._past.pop()

    def redo(self) -> None:
        """Take back :meth:`undo`."""
        if self._future:
            self._past.append(self.now)
            self.now = self._future.pop()
