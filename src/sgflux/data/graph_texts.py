"""Ways to tell a whole graph in a text: candidates for what a base model understands best.

Every text says which of several things of one name is meant: "a dog", "another dog", then "the
first dog" and "the second dog". Statements come in reading order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from sgflux.data.examples import SceneExample
from sgflux.data.mentions import Mentions
from sgflux.data.prompts import prompt_for, terse
from sgflux.data.reading_order import reading_order
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph

_SPOKEN = {"around/near": "near", "left of": "to the left of", "right of": "to the right of"}


class _Telling:
    """Names things while a text is written: what was mentioned before, and what was not."""

    def __init__(self, graph: SceneGraph) -> None:
        order = [graph.relationships[index] for index in reading_order(graph)]
        self.statements = [(s, _spoken(predicate), o) for s, predicate, o in order]
        in_order = dict.fromkeys(i for s, _, o in self.statements for i in (s, o))
        self.things = [*in_order, *(i for i in range(len(graph.objects)) if i not in in_order)]
        self._mentions = Mentions(graph)
        self.name = self._mentions.name

    def rest(self) -> list[str]:
        """Return the things that no statement mentioned."""
        return [self.name(index) for index in self.things if index not in self._mentions]


def _in_reading_order(graph: SceneGraph) -> SceneGraph:
    stated = tuple(graph.relationships[index] for index in reading_order(graph))
    return SceneGraph(objects=graph.objects, relationships=stated)


def _articles(graph: SceneGraph) -> str:
    """Write "a photo of a man riding a horse and the man wearing a hat"."""
    told = _Telling(graph)
    parts = [f"{told.name(s)} {predicate} {told.name(o)}" for s, predicate, o in told.statements]
    return f"a photo of {' and '.join([*parts, *told.rest()])}"


def _joined(graph: SceneGraph) -> str:
    """Write "a photo of a man riding a horse and wearing a hat, and a dog near the man"."""
    told = _Telling(graph)
    parts = []
    for subject, group in groupby(told.statements, key=lambda statement: statement[0]):
        name = told.name(subject)
        parts.append(f"{name} {' and '.join(f'{p} {told.name(o)}' for _, p, o in group)}")
    return f"a photo of {', and '.join([*parts, *told.rest()])}"


def _sentences(graph: SceneGraph) -> str:
    """Write "A man is riding a horse. The man is wearing a hat."."""
    told = _Telling(graph)
    parts = [f"{told.name(s)} is {predicate} {told.name(o)}" for s, predicate, o in told.statements]
    parts += [f"there is {name}" for name in told.rest()]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _listed(graph: SceneGraph) -> str:
    """Write "a photo of a man, a horse and a hat: the man is riding the horse, ..."."""
    told = _Telling(graph)
    *first, last = [told.name(index) for index in told.things]
    things = f"{', '.join(first)} and {last}" if first else last
    parts = [f"{told.name(s)} is {predicate} {told.name(o)}" for s, predicate, o in told.statements]
    return f"a photo of {things}: {', '.join(parts)}"


WORDINGS: dict[str, Callable[[SceneExample], str]] = {
    "plain": lambda example: prompt_for(example, "relational"),
    "terse": lambda example: terse(_in_reading_order(example.graph)),
    "articles": lambda example: _articles(example.graph),
    "joined": lambda example: _joined(example.graph),
    "sentences": lambda example: _sentences(example.graph),
    "listed": lambda example: _listed(example.graph),
}
"""Name of a wording -> text of an example whose graph states something.

"plain" is what the base is told unless another wording was chosen, and what an adapter's teacher is
told. It is "terse", but where the row has a text of its own.
"""


def _spoken(predicate: str) -> str:
    canonical = DEFAULT_VOCABULARY.normalize(predicate)
    return _SPOKEN.get(canonical, canonical)
