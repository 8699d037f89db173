"""Ways to tell a whole graph in a text: candidates for what a base model understands best.

Every text but the plain one says which of several things of one name is meant: "a dog", "another
dog", then "the first dog" and "the second dog". Statements come in reading order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby

from sgflux.data.examples import SceneExample
from sgflux.data.prompts import in_prose, prompt_for
from sgflux.data.reading_order import reading_order
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph

_SPOKEN = {"around/near": "near", "left of": "to the left of", "right of": "to the right of"}
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_PLURALS = frozenset({"children", "men", "people", "women"})


class _Telling:
    """Names things while a text is written: what was mentioned before, and what was not."""

    def __init__(self, graph: SceneGraph) -> None:
        self.graph = graph
        self.mentioned: list[int] = []
        order = [graph.relationships[index] for index in reading_order(graph)]
        self.statements = [(s, _spoken(predicate), o) for s, predicate, o in order]
        in_order = dict.fromkeys(i for s, _, o in self.statements for i in (s, o))
        self.things = [*in_order, *(i for i in range(len(graph.objects)) if i not in in_order)]

    def name(self, index: int) -> str:
        """Return how the thing is called here."""
        name = self.graph.objects[index]
        twins = [i for i in self.things if self._is_named(i, name)]
        before = [i for i in self.mentioned if self._is_named(i, name)]
        if index in before:
            return (
                f"the {_ordinal(before.index(index))} {name}" if len(twins) > 1 else f"the {name}"
            )
        self.mentioned.append(index)
        if before:
            return f"another {name}" if len(before) == 1 else f"a {_ordinal(len(before))} {name}"
        return _with_article(name)

    def rest(self) -> list[str]:
        """Return the things that no statement mentioned."""
        return [self.name(index) for index in self.things if index not in self.mentioned]

    def _is_named(self, index: int, name: str) -> bool:
        return self.graph.objects[index].casefold() == name.casefold()


def terse(graph: SceneGraph) -> str:
    """Write "a photo of man riding horse and man wearing hat", but "another dog" of a second one.

    It is the plain text of a graph without things of equal names, and the shortest text that tells
    such things apart. Statements come in the graph's own order.
    """
    told = _Telling(graph)
    parts = [
        f"{_bare(told.name(s))} {in_prose(DEFAULT_VOCABULARY.normalize(predicate))} "
        f"{_bare(told.name(o))}"
        for s, predicate, o in graph.relationships
    ]
    return f"a photo of {' and '.join([*parts, *map(_bare, told.rest())])}"


def _in_reading_order(graph: SceneGraph) -> SceneGraph:
    stated = tuple(graph.relationships[index] for index in reading_order(graph))
    return SceneGraph(objects=graph.objects, relationships=stated)


def _bare(name: str) -> str:
    """Leave the article of a thing out."""
    return re.sub("^(a|an|the) ", "", name)


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

"plain" is what the base is told unless another wording was chosen, and what an adapter's teacher
was told. It calls things of one name alike.
"""


def twins_told_alike(examples: Iterable[SceneExample]) -> int:
    """Count the examples in whose plain text it is open which of several things is meant.

    A benchmark's own prompt is left to the benchmark.
    """
    return sum(
        len(example.graph.relationships) > 1
        and example.graph.labels() != example.graph.objects
        and "benchmark" not in example.meta
        for example in examples
    )


def _spoken(predicate: str) -> str:
    canonical = DEFAULT_VOCABULARY.normalize(predicate)
    return _SPOKEN.get(canonical, canonical)


def _with_article(name: str) -> str:
    last = name.split()[-1].casefold()
    if last in _PLURALS or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return name
    return f"an {name}" if name[0].casefold() in "aeiou" else f"a {name}"


def _ordinal(index: int) -> str:
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"
