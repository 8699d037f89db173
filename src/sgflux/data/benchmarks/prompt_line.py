"""What is read of one line of a prompt list, and why another line is not read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph


class NotParsedError(SgfluxError):
    """A line that the documented forms do not have; the message is the reason."""


@dataclass(frozen=True)
class StatedLine:
    """One line that was read.

    Attributes:
        prompt: Text of the prompt, as the list has it.
        graph: Graph that the prompt states; its predicates are in the words of the list. It has no
            relationship where the prompt states none.
        kind: Kind of the prompt in the benchmark, like GenEval's tag "position".
        entry: JSON object of the line; None where the list is plain text.
    """

    prompt: str
    graph: SceneGraph
    kind: str
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Group:
    """Things of one name that a prompt mentions together.

    Attributes:
        name: Name of each thing, with the words that describe it ("green chair").
        count: Number of things.
    """

    name: str
    count: int = 1


def graph_of(groups: Iterable[Group], relations: Iterable[tuple[int, str, int]]) -> SceneGraph:
    """Return the graph in which each thing of a group has the group's relations.

    Args:
        groups: Groups in the order of the prompt.
        relations: (index of a group, predicate, index of another group): every thing of the first
            group stands in the relation to every thing of the second.
    """
    objects: list[str] = []
    members: list[range] = []
    for group in groups:
        members.append(range(len(objects), len(objects) + group.count))
        objects += [group.name] * group.count
    relationships = tuple(
        (subject, predicate, object_)
        for first, predicate, second in relations
        for subject in members[first]
        for object_ in members[second]
    )
    return SceneGraph(objects=tuple(objects), relationships=relationships)
