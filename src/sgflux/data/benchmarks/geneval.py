"""GenEval's ``evaluation_metadata.jsonl``: what is to be in a picture, and where.

A line has ``tag``, ``prompt``, ``include`` and perhaps ``exclude``. An entry of ``include`` has
``class`` and ``count``, and may have ``color`` and ``position``: a relation, and the index of the
entry that it relates to. Every thing of the entry stands so to every thing of the other one, as
GenEval's script asks. ``exclude`` says what a picture must not have, which no graph states.

Source: Ghosh et al. 2023, arXiv:2310.11513; the format is that of github.com/djghosh13/geneval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sgflux.data.benchmarks.prompt_line import Group, NotParsedError, StatedLine, graph_of

KEYS = frozenset({"tag", "include", "prompt"})
"""Keys that a line of such a file has."""
_Words = Annotated[str, Meta(min_length=1)]


class _Entry(Struct, forbid_unknown_fields=True, rename={"name": "class"}):
    name: _Words
    count: Annotated[int, Meta(ge=1, le=100)]
    color: _Words | None = None
    position: tuple[_Words, int] | None = None


class _Line(Struct, forbid_unknown_fields=True):
    tag: _Words
    prompt: _Words
    include: Annotated[list[_Entry], Meta(min_length=1)]
    exclude: list[dict[str, Any]] = []


def parse_geneval(entry: Mapping[str, Any]) -> StatedLine:
    """Return what a line of GenEval states.

    Raises:
        NotParsedError: if it has another form, or a position relates to no earlier entry.
    """
    try:
        line = msgspec.convert(entry, _Line)
    except msgspec.ValidationError as error:
        raise NotParsedError(f"is no line of GenEval: {error}") from error
    groups, relations = [], []
    for index, one in enumerate(line.include):
        groups.append(Group(f"{one.color} {one.name}" if one.color else one.name, one.count))
        if one.position is not None:
            predicate, other = one.position
            if not 0 <= other < index:
                raise NotParsedError(
                    f"include[{index}].position relates to entry {other}, which is no earlier one"
                )
            relations.append((index, predicate, other))
    return StatedLine(line.prompt, graph_of(groups, relations), line.tag, entry)
