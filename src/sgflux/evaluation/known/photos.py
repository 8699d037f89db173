"""Photographs with boxes, geometric relations, judged statements and verbs, one JSON line each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from sgflux.data.boxes import Box
from sgflux.data.files import resolve_path
from sgflux.errors import SgfluxError, located
from sgflux.evaluation.known.pictures import KnownPicture, KnownSet, KnownStatement, Source
from sgflux.evaluation.known.vcoco import wording
from sgflux.files.json_files import iter_json_lines
from sgflux.graphs.scene_graph import Triple


class _Object(Struct):
    name: str
    box: tuple[float, float, float, float]


_Place = Annotated[int, Meta(ge=0)]


class _Geometric(Struct):
    subject: _Place
    predicate: str
    object: _Place


class _Judged(Struct):
    relation: str
    true: bool
    subject_name: str
    object_name: str


class _Verb(Struct):
    subject: _Place
    predicate: str
    role: str | None
    object: _Place | None


class _Relations(Struct):
    geometric: list[_Geometric] = []
    vsr: list[_Judged] = []
    vcoco: list[_Verb] = []
    pairs: list[dict[str, object]] = []


class _Photo(Struct):
    file: str
    objects: list[_Object]
    relations: _Relations


KEYS = {"file", "objects", "relations"}
"""Keys by which such a line is known."""


def read_photos(path: Path, images_dir: Path) -> KnownSet:
    """Read a file of such lines, whose pictures lie below ``images_dir``.

    Raises:
        SgfluxError: naming the line and the key that is wrong.
    """
    pictures = []
    left_out: Counter[str] = Counter()
    for number, photo in iter_json_lines(path, _Photo, way_out="see docs/judges.md for its form"):
        with located(f"{path}:{number}"):
            known = _statements(photo, left_out)
        left_out["pairs of captions"] += len(photo.relations.pairs)
        pictures.append(
            KnownPicture(
                path=resolve_path(photo.file, images_dir),
                statements=tuple(known),
                objects=tuple((one.name, Box(*one.box)) for one in photo.objects),
            )
        )
    return KnownSet(pictures, +left_out)


def _statements(photo: _Photo, left_out: Counter[str]) -> list[KnownStatement]:
    """Return the statements of a line; what is none is counted in ``left_out``."""

    def name(place: int) -> str:
        if place >= len(photo.objects):
            raise SgfluxError(f"a relation names object {place}, of {len(photo.objects)} objects")
        return photo.objects[place].name

    known = [
        KnownStatement(
            Triple(name(one.subject), one.predicate, name(one.object)), True, Source.GEOMETRIC
        )
        for one in photo.relations.geometric
    ]
    known += [
        KnownStatement(
            Triple(one.subject_name, one.relation, one.object_name), one.true, Source.HUMAN
        )
        for one in photo.relations.vsr
    ]
    for verb in photo.relations.vcoco:
        if verb.object is None or verb.role is None:
            left_out["verbs without a visible object"] += 1
            continue
        words = wording(verb.predicate, verb.role)
        triple = Triple(name(verb.subject), words, name(verb.object))
        known.append(KnownStatement(triple, True, Source.STATED))
    return known
