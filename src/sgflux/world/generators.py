"""Generators of the bundled world, which test the evaluation itself.

The evaluation is right if an oracle that draws the stated relation scores about 100 %, one that is
blind to the graph wins half of the time, and one that swaps the roles loses every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.world.scenes import PREDICATES, render_relationships

NameTriple = tuple[str, str, str]


class Request(Protocol):
    """What a generator of the world reads of a picture that an evaluation asks for."""

    @property
    def seed(self) -> int:
        """Seed of the picture's noise."""

    @property
    def graph(self) -> SceneGraph | None:
        """The graph that the adapter is told; None means no graph."""

    @property
    def text(self) -> SceneGraph:
        """What the prompt states."""

    @property
    def prompt(self) -> str:
        """The prompt."""

    @property
    def place(self) -> str:
        """What an error calls the picture's example."""


class WorldGenerator:
    """Draws with the bundled world's own brush what a rule makes of a request.

    Where nothing states a relation, the prompt's objects are drawn in random ones, as by a base.
    """

    def __init__(self, name: str, *, resolution: int = 64) -> None:
        """Keep the name, a key of :data:`WORLD_GENERATORS`, and the side of pictures in pixels."""
        self.name = name
        self._stated = WORLD_GENERATORS[name]
        self._resolution = resolution

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Draw B requests: (B, H, W, 3) uint8."""
        return np.stack([self._picture(request) for request in requests])

    def record(self, request: Request) -> dict[str, Any]:
        """Return how a request's picture is made, as plain JSON."""
        return {
            "generator": self.name,
            "graph": None if request.graph is None else request.graph.to_json(),
            "prompt": request.prompt,
            "seed": request.seed,
            "height": self._resolution,
            "width": self._resolution,
        }

    def _picture(self, request: Request) -> np.ndarray:
        rng = np.random.default_rng(request.seed)
        graph = self._stated(request)
        triples = _random_relations(rng, request.text) if graph is None else _relations(graph)
        try:
            return render_relationships(rng, triples, resolution=self._resolution).image
        except SgfluxError as error:
            raise SgfluxError(
                f"generator {self.name!r} cannot draw {request.place}: {error}"
            ) from error


def _of_text(request: Request) -> SceneGraph | None:
    """Return what the text states, never what the graph does."""
    return None if request.text.is_null else request.text


def _of_graph(request: Request) -> SceneGraph | None:
    """Return what the graph states, or else what the text states."""
    return request.graph or _of_text(request)


def _swapped(request: Request) -> SceneGraph | None:
    """Return the stated graph with every subject taken for the object."""
    graph = _of_graph(request)
    if graph is None:
        return None
    return SceneGraph(
        objects=graph.objects,
        relationships=tuple((o, predicate, s) for s, predicate, o in graph.relationships),
    )


WORLD_GENERATORS: dict[str, Callable[[Request], SceneGraph | None]] = {
    "oracle": _of_graph,
    "blind": _of_text,
    "swapped": _swapped,
}
"""Name of a generator -> the graph that it draws for a request; None: nothing is stated."""


def _relations(graph: SceneGraph) -> list[NameTriple]:
    return [
        (triple.subject, DEFAULT_VOCABULARY.normalize(triple.predicate), triple.object)
        for triple in graph.labelled_triples()
    ]


def _random_relations(rng: np.random.Generator, text: SceneGraph) -> list[NameTriple]:
    """Relate each object to one before it at random, in either order."""
    names = list(text.labels())
    order = [names[i] for i in rng.permutation(len(names))]
    triples = []
    for place in range(1, len(order)):
        pair = [order[int(rng.integers(place))], order[place]]
        subject, object_ = (pair[i] for i in rng.permutation(2))
        triples.append((subject, PREDICATES[int(rng.integers(len(PREDICATES)))], object_))
    return triples
