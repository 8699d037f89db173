"""Data for an encoder with a vocabulary of its own: what it can express is kept, and the rest said.

Nothing is dropped in silence: whatever is left out is counted, and :meth:`Kept.lines` says why.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from sgflux.data.examples import SceneExample, knowing_all
from sgflux.graphs.scene_graph import SceneGraph

_SHOWN = 12


@dataclass(frozen=True)
class Kept:
    """Examples of which every word can be expressed, and what was left out for it.

    Attributes:
        examples: the examples, some with smaller graphs than before; what is left out of pictures
            that are kept is among their ``known_triples``.
        rows: place of each of them among the examples before any were left out.
        of: Number of examples before any were left out.
        predicates: examples left out because of their own triple's predicate, by predicate.
        objects: examples left out because of an object of their own triple, by object.
        relationships: relationships left out of graphs that were kept, by predicate.
        bystanders: objects left out of graphs that were kept, by name.
    """

    examples: list[SceneExample]
    of: int
    rows: list[int] = field(default_factory=list)
    predicates: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    relationships: Counter[str] = field(default_factory=Counter)
    bystanders: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return what was left out, in words; empty if nothing was."""
        said = (
            ("examples left out, whose predicate the graph encoder lacks", self.predicates),
            ("examples left out, one of whose objects the graph encoder lacks", self.objects),
            ("relationships left out of other graphs", self.relationships),
            ("objects left out of other graphs", self.bystanders),
        )
        lines = [f"{sum(c.values())} {what}: {_counts(c)}" for what, c in said if c]
        if lines:
            lines.append(f"{len(self.examples)} of {self.of} examples are kept")
        return lines

    def to_json(self) -> dict[str, dict[str, int]]:
        """Return the counts, as plain JSON."""
        names = ("predicates", "objects", "relationships", "bystanders")
        return {name: dict(getattr(self, name)) for name in names}


def keep_expressible(
    examples: Iterable[SceneExample],
    *,
    predicates: Collection[str],
    knows_object: Callable[[str], bool] | None = None,
) -> Kept:
    """Leave out what an encoder has no word for.

    An example stays if its own triple can be expressed; from its graph the relationships and
    objects go that cannot, with their boxes.

    Args:
        examples: Examples with canonical predicates.
        predicates: canonical names that can be expressed.
        knows_object: whether an object can be; None: leave out none for its objects.
    """
    examples = list(examples)
    kept = Kept(examples=[], of=len(examples))
    knows = knows_object or (lambda _: True)
    for row, example in enumerate(examples):
        triple = example.triple
        lacking = [name for name in (triple.subject, triple.object) if not knows(name)]
        if triple.predicate not in predicates:
            kept.predicates[triple.predicate] += 1
        elif lacking:
            kept.objects[lacking[0]] += 1
        else:
            kept.rows.append(row)
            kept.examples.append(_reduced(example, predicates, knows, kept))
    return dataclasses.replace(kept, examples=knowing_all(kept.examples, examples))


def _reduced(
    example: SceneExample,
    predicates: Collection[str],
    knows: Callable[[str], bool],
    kept: Kept,
) -> SceneExample:
    graph = example.graph
    stay = [index for index, name in enumerate(graph.objects) if knows(name)]
    place = {old: new for new, old in enumerate(stay)}
    relationships = []
    for subject, predicate, object_ in graph.relationships:
        if predicate in predicates and subject in place and object_ in place:
            relationships.append((place[subject], predicate, place[object_]))
        else:
            kept.relationships[predicate] += 1
    kept.bystanders.update(name for i, name in enumerate(graph.objects) if i not in place)
    if len(stay) == len(graph.objects) and len(relationships) == len(graph.relationships):
        return example
    return dataclasses.replace(
        example,
        graph=SceneGraph(
            objects=tuple(graph.objects[index] for index in stay),
            relationships=tuple(relationships),
        ),
        boxes=None if example.boxes is None else tuple(example.boxes[index] for index in stay),
    )


def _counts(counter: Counter[str]) -> str:
    shown = ", ".join(f"{name} {count}" for name, count in counter.most_common(_SHOWN))
    more = len(counter) - _SHOWN
    return shown if more <= 0 else f"{shown} and {more} more words"
