"""What a text calls the things of a graph, so that things of equal names are told apart."""

from __future__ import annotations

from sgflux.graphs.scene_graph import SceneGraph

_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_PLURALS = frozenset({"children", "men", "people", "women"})


class Mentions:
    """Names things in the order in which a text mentions them.

    Of two dogs the first one is "a dog" and the other "another dog"; mentioned again, they are "the
    first dog" and "the second dog". A thing that is alone of its name is "a cat", then "the cat".
    """

    def __init__(self, graph: SceneGraph) -> None:
        """Begin a text about a graph, in which nothing is mentioned yet."""
        self._names = [name.casefold() for name in graph.objects]
        self._written = graph.objects
        self._mentioned: list[int] = []

    def name(self, index: int) -> str:
        """Return what the text calls the thing at its next mention."""
        name = self._written[index]
        before = [i for i in self._mentioned if self._names[i] == self._names[index]]
        if index in before:
            has_twin = self._names.count(self._names[index]) > 1
            return f"the {_ordinal(before.index(index))} {name}" if has_twin else f"the {name}"
        self._mentioned.append(index)
        if before:
            return f"another {name}" if len(before) == 1 else f"a {_ordinal(len(before))} {name}"
        return _with_article(name)

    def __contains__(self, index: int) -> bool:
        """Whether the text has mentioned the thing."""
        return index in self._mentioned


def _with_article(name: str) -> str:
    last = name.split()[-1].casefold()
    if last in _PLURALS or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return name
    return f"an {name}" if name[0].casefold() in "aeiou" else f"a {name}"


def _ordinal(index: int) -> str:
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"
