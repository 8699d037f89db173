"""The mirror image of an example: another picture, about which other words are true.

Left and right change places wherever they are said: in the predicate, the graph, the prompt, the
concepts and the names ("left hand"). Boxes are mirrored in the picture's width, and
``meta.mirrored`` makes every reader of the picture mirror it, too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from sgflux.data.boxes import Box
from sgflux.data.examples import SceneExample
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph, Triple

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}


def mirrored(example: SceneExample, *, width: float) -> SceneExample:
    """Return the example's mirror image; that of the mirror image is the example again.

    Args:
        example: any example.
        width: Width of the upright picture in pixels.
    """
    own = example.triple
    triple = Triple(*map(mirrored_words, (own.subject, own.predicate, own.object)))
    meta: dict[str, Any] = {**example.meta, "mirrored": not example.is_mirrored}
    meta["predicate_raw"] = mirrored_words(meta.get("predicate_raw", triple.predicate))
    if "class_id" in meta and triple.predicate in DEFAULT_VOCABULARY:
        meta["class_id"] = DEFAULT_VOCABULARY.class_id(triple.predicate)
    if "known_triples" in meta:
        meta["known_triples"] = [
            list(map(mirrored_words, known)) for known in meta["known_triples"]
        ]
    if "attributes" in meta:  # "left", of a hand
        meta["attributes"] = [list(map(mirrored_words, words)) for words in meta["attributes"]]
    if "relationships_raw" in meta:
        meta["relationships_raw"] = [
            [s, mirrored_words(predicate), o] for s, predicate, o in meta["relationships_raw"]
        ]
    return replace(
        example,
        prompt=mirrored_words(example.prompt),
        concepts=tuple(map(mirrored_words, example.concepts)),
        triple=triple,
        graph=SceneGraph(
            objects=tuple(map(mirrored_words, example.graph.objects)),
            relationships=tuple(
                (s, mirrored_words(predicate), o) for s, predicate, o in example.graph.relationships
            ),
        ),
        boxes=None if example.boxes is None else tuple(_box(box, width) for box in example.boxes),
        meta=meta,
    )


def mirrored_words(text: str) -> str:
    """Return ``text`` with "left" and "right" in each other's place."""
    return _SIDES.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), text)


def _like(pattern: str, word: str) -> str:
    if pattern.isupper():
        return word.upper()
    return word.capitalize() if pattern[0].isupper() else word


def _box(box: Box, width: float) -> Box:
    left = width - box.left - box.width
    return box._replace(left=round(left, 4) if isinstance(left, float) else left)
