"""Hypothesis strategies for scene graphs, shared by the tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st

from sgflux.graphs.predicates import CANONICAL_PREDICATES, DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph

_KNOWN_WORDS = (*CANONICAL_PREDICATES, *DEFAULT_VOCABULARY.aliases)
_PREDICATES = st.sampled_from((*_KNOWN_WORDS, "kicking", "walking on"))
_NAMES = st.sampled_from(("man", "horse", "hat", "dog", "Dog", "person", "tree"))


@st.composite
def scene_graphs(
    draw: st.DrawFn,
    *,
    names: st.SearchStrategy[str] = _NAMES,
    predicates: st.SearchStrategy[str] = _PREDICATES,
    max_objects: int = 6,
) -> SceneGraph:
    """Graphs with repeated names, isolated objects, aliases and words outside the vocabulary."""
    objects = draw(st.lists(names, max_size=max_objects))
    pairs = [(s, o) for s in range(len(objects)) for o in range(len(objects)) if s != o]
    if not pairs:
        return SceneGraph(objects=tuple(objects), relationships=())
    entry = st.tuples(st.sampled_from(pairs), predicates).map(lambda e: (e[0][0], e[1], e[0][1]))
    relationships = draw(st.lists(entry, max_size=6, unique=True))
    return SceneGraph(objects=tuple(objects), relationships=tuple(relationships))
