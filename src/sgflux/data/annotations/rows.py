"""A chosen relationship as a row: words, graph, boxes, and what else is known of the picture."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sgflux.data.annotations.filters import (
    SAME_THING,
    Candidates,
    class_of,
    clipped_boxes,
    overlap,
)
from sgflux.data.annotations.table import Annotations
from sgflux.data.boxes import Box
from sgflux.data.examples import SceneExample
from sgflux.data.prompts import in_prose
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY
from sgflux.graphs.scene_graph import SceneGraph

MAX_TRIPLES = 15
"""Triples that a whole graph has at most: the CGIP encoder reads no more."""


def check_template(template: str) -> str:
    """Return the template, if it has {subject}, {predicate} and {object}, and nothing else.

    Raises:
        SgfluxError: otherwise.
    """
    try:
        parts = [(name, spec) for _, name, spec, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise SgfluxError(f"prompt_template {template!r}: {error}") from error
    names = {name for name, _ in parts if name is not None}
    if names != {"subject", "predicate", "object"} or any(spec for _, spec in parts):
        raise SgfluxError(
            f"prompt_template must have {{subject}}, {{predicate}} and {{object}} and no other "
            f"field, got {template!r}"
        )
    return template


@dataclass(frozen=True, kw_only=True, eq=False)
class RowMaker:
    """Words relationships as rows.

    Attributes:
        table: all relationships.
        candidates: Relationships that are fit to be stated.
        classes: the predicates of the data set.
        template: Template of the prompt.
        whole_graphs: give every row all that is fit to be stated of its picture, not its triple
            alone.
        seed: Seed of the order of the objects in a graph.
    """

    table: Annotations
    candidates: Candidates
    classes: Sequence[str]
    template: str
    whole_graphs: bool
    seed: int

    @cached_property
    def _canonical(self) -> list[str]:
        """The canonical form of each predicate of the table."""
        return [class_of(word, self.table.relation_aliases) for word in self.table.predicates]

    def example(
        self, row: int, *, split: str, size: tuple[int, int], extra: Mapping[str, Any]
    ) -> SceneExample:
        """Return the row of the relationship ``row``.

        Args:
            row: index of a relationship.
            split: the set it was chosen for.
            size: (width, height) of the upright picture in pixels.
            extra: further fields of ``meta``.
        """
        table, relations = self.table, self.table.relations
        image = int(relations.images[row])
        stated = self._stated(row) if self.whole_graphs else [row]
        graph, boxes, things = self._graph(row, stated, size)
        triple = graph.triples()[0]
        raw = " ".join(table.predicates[relations.predicates[row]].split())
        return SceneExample(
            prompt=self.template.format(
                subject=triple.subject, predicate=in_prose(triple.predicate), object=triple.object
            ),
            concepts=(triple.subject, triple.predicate, triple.object),
            triple=triple,
            graph=graph,
            boxes=boxes,
            meta={
                "image_rel_path": table.images.paths[image],
                "predicate_raw": raw,
                "class_id": class_id(triple.predicate, self.classes),
                "h5_split": split,
                "img_idx": image,
                "rel_idx": int(relations.places[row]),
                "image_id": int(table.images.ids[image]),
                "relationship_id": int(relations.ids[row]),
                "object_ids": [int(table.objects.ids[thing]) for thing in things],
                "known_triples": self.known_triples(image),
                **extra,
            },
        )

    def known_triples(self, image: int) -> list[list[str]]:
        """Return all that is annotated of an image, each statement once, filters or not."""
        table, relations = self.table, self.table.relations
        known: dict[tuple[str, ...], None] = {}
        for row in relations.of_image(image):
            subject, object_ = (
                table.names[table.objects.names[end]]
                for end in (relations.subjects[row], relations.objects[row])
            )
            words = (subject, self._canonical[relations.predicates[row]], object_)
            if all(words):
                known[words] = None
        return [list(words) for words in known]

    def _stated(self, row: int) -> list[int]:
        """Return the row itself, then all other candidates of its image in their order."""
        image = int(self.table.relations.images[row])
        others = [i for i in self.table.relations.of_image(image) if self.candidates.keep[i]]
        return [row, *(i for i in others if i != row)][:MAX_TRIPLES]

    def _graph(
        self, row: int, stated: Sequence[int], size: tuple[int, int]
    ) -> tuple[SceneGraph, tuple[Box, ...], list[int]]:
        """Return graph, boxes and objects; two annotations of one thing are one object.

        The objects come in a random order: the neutral prompt lists them, and must not give away
        who is the subject.
        """
        relations, objects = self.table.relations, self.table.objects
        ends = [int(end) for i in stated for end in (relations.subjects[i], relations.objects[i])]
        things: list[int] = []
        node: dict[int, int] = {}
        for end in ends:
            if end not in node:
                same = next((i for i, thing in enumerate(things) if self._same(thing, end)), None)
                node[end] = len(things) if same is None else same
                if same is None:
                    things.append(end)
        order = np.random.default_rng(
            np.random.SeedSequence(self.seed, spawn_key=(2, int(row)))
        ).permutation(len(things))
        place = {int(old): new for new, old in enumerate(order)}
        stated_once = dict.fromkeys(
            (
                place[node[int(relations.subjects[i])]],
                self._canonical[relations.predicates[i]],
                place[node[int(relations.objects[i])]],
            )
            for i in stated
        )
        ordered = [things[old] for old in order]
        graph = SceneGraph(
            objects=tuple(self.table.names[objects.names[thing]] for thing in ordered),
            relationships=tuple(entry for entry in stated_once if entry[0] != entry[2]),
        )
        boxes = clipped_boxes(self.candidates.boxes[ordered], np.array([size] * len(ordered)))
        return graph, tuple(_plain_box(box) for box in boxes), ordered

    def _same(self, first: int, second: int) -> bool:
        objects, boxes = self.table.objects, self.candidates.boxes
        return bool(
            objects.names[first] == objects.names[second]
            and overlap(boxes[first], boxes[second]) >= SAME_THING
        )


def class_id(predicate: str, classes: Sequence[str]) -> int:
    """Return the vocabulary's class id; a word of the user's own comes after all of these."""
    if predicate in DEFAULT_VOCABULARY:
        return DEFAULT_VOCABULARY.class_id(predicate)
    own = [name for name in classes if name not in DEFAULT_VOCABULARY]
    return len(DEFAULT_VOCABULARY) + own.index(predicate)


def _plain_box(box: np.ndarray) -> Box:
    """Return a box whose whole numbers are integers, as the release has them."""
    return Box(*(int(side) if side == int(side) else round(float(side), 2) for side in box))
