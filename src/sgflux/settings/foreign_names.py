"""What the flags and settings of other trainers are called here.

The names are those of diffusers' and transformers' example scripts, kohya's sd-scripts, ai-toolkit
and plain Python pipelines. Somebody who types one is told sgflux's own, by the command line and by
configuration files alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

from sgflux.files.reading import table_beside


@dataclass(frozen=True)
class Foreign:
    """What somebody else's setting is here.

    Attributes:
        names: the settings of sgflux that say the same; those that a command has are named.
        note: Further remark, as a clause without a full stop; alone it answers a
            setting that sgflux does not have at all.
    """

    names: tuple[str, ...] = ()
    note: str = ""


@cache
def foreign_names() -> Mapping[str, Foreign]:
    """Somebody else's name, in lower case with underscores -> what it is here.

    The table is foreign_names.toml beside this module; it is read when a name is first asked for.
    """
    return {
        name: Foreign(tuple(entry.get("ours", ())), entry.get("note", ""))
        for entry in table_beside(__file__)["settings"]
        for name in entry["theirs"]
    }


def own_name(name: str, known: Collection[str], *, spell: Callable[[str], str] = repr) -> str:
    """What a setting that sgflux does not have is called here, as the end of a sentence.

    Args:
        name: The name as it was given.
        known: the settings that there are; those in a group as ``group.name``.
        spell: Function that writes the name of a setting of ours.

    Returns:
        A clause like "here it is 'lr'", "did you mean 'batch_size'?" or, where nothing is near, "".
    """
    plain = name.strip().lower().replace("-", "_")
    own = [entry for entry in known if entry.rpartition(".")[2] == plain]
    if own:
        return f"here it is {spell(own[0])}"
    foreign = foreign_names().get(plain)
    if foreign is not None:
        names = [entry for entry in known if _is_one_of(entry, foreign.names)]
        names.sort(key=lambda entry: _rank(entry, foreign.names))
        if names:
            note = f" ({foreign.note})" if foreign.note else ""
            return f"here it is {' and '.join(map(spell, names))}{note}"
        if foreign.note and not foreign.names:
            return foreign.note
    last_parts = {entry.rpartition(".")[2]: entry for entry in reversed(list(known))}
    near = difflib.get_close_matches(plain, [*known, *last_parts], n=1)
    return f"did you mean {spell(last_parts.get(near[0], near[0]))}?" if near else ""


def _is_one_of(entry: str, names: Collection[str]) -> bool:
    return entry in names or entry.rpartition(".")[2] in names


def _rank(entry: str, names: tuple[str, ...]) -> int:
    return names.index(entry if entry in names else entry.rpartition(".")[2])
