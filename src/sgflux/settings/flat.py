"""Groups of settings, and the flat form of a configuration that is composed of them.

A command's settings are a dataclass whose fields are groups: ``model: Group[ModelSource]``. Users
see no group: flags, settings files and checkpoints hold the settings of all groups side by side.
A dataclass that is no group keeps its own name there: ``prompt_mix``, ``losses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

_GROUP, _PREFIXLESS = "group", "prefixless"

Settings = TypeVar("Settings")
Group = Annotated[Settings, _GROUP]
"""Annotation of a field whose own fields are settings of the class that has it."""
Prefixless = Annotated[Settings, _PREFIXLESS]
"""Annotation of a field that is a table of its own in files, while its flags have no prefix."""


def as_json(value: Any) -> Any:
    """Settings, or the value of one, as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = flat_values(value)
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def hints_of(cls: Any) -> dict[str, Any]:
    """Field of a dataclass -> its annotation with everything that it is annotated with."""
    return _hints(cls)


_hints = cache(partial(get_type_hints, include_extras=True))


@dataclass(frozen=True)
class Flag:
    """Mark of an annotation that several fields share, about their flag.

    Attributes:
        help: Text of ``--help``; None: the text below the field.
        former: Names that the setting had in earlier versions, which flags and files may still use.
        is_input: Whether the value names files or folders that must be there when a command begins.
        is_output: Whether the value names a file that a command writes, which may be there.
    """

    help: str | None = None
    former: tuple[str, ...] = ()
    is_input: bool = False
    is_output: bool = False


@dataclass(frozen=True, eq=False)
class Texts:
    """Mark of a group in a command where some of its settings have another default.

    Attributes:
        help: Setting of the group -> its text of ``--help`` in this command.
    """

    help: Mapping[str, str]


Input = Annotated[Settings, Flag(is_input=True)]
"""Annotation of paths that must be there when a command begins."""


def flag_of(hint: Any) -> Flag:
    """The mark of an annotation; one without content where there is none."""
    marks = getattr(hint, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Flag)), Flag())


def texts_of(hint: Any) -> Mapping[str, str]:
    """The help of a group's mark :class:`Texts`; none where there is no such mark."""
    marks = getattr(hint, "__metadata__", ())
    return next((mark.help for mark in marks if isinstance(mark, Texts)), {})


def settings_class(hint: Any) -> type | None:
    """The dataclass that an annotation means, if it means one."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def group_class(hint: Any) -> type | None:
    """The dataclass of a field that is a group; None for any other annotation."""
    return settings_class(hint) if _GROUP in getattr(hint, "__metadata__", ()) else None


def is_prefixless(hint: Any) -> bool:
    """Whether the flags of the dataclass that an annotation means have no prefix."""
    return bool({_GROUP, _PREFIXLESS}.intersection(getattr(hint, "__metadata__", ())))


def flat_hints(cls: type) -> dict[str, Any]:
    """Setting -> its annotation, over all groups."""
    found: dict[str, Any] = {}
    for name, hint in hints_of(cls).items():
        group = group_class(hint)
        found |= {name: hint} if group is None else flat_hints(group)
    return found


def former_names(cls: type) -> dict[str, str]:
    """Name that a setting had in an earlier version -> its name today, over all groups."""
    return {old: name for name, hint in flat_hints(cls).items() for old in flag_of(hint).former}


def flat_values(settings: Any) -> dict[str, Any]:
    """Setting -> its value, over all groups."""
    found: dict[str, Any] = {}
    for name, hint in hints_of(type(settings)).items():
        value = getattr(settings, name)
        found |= {name: value} if group_class(hint) is None else flat_values(value)
    return found


def flat_defaults(cls: type) -> dict[str, Any]:
    """Setting -> its default as JSON has it, over all groups; a setting without one is left out."""
    hints, found = hints_of(cls), dict[str, Any]()
    for entry in fields(cls):
        group = group_class(hints[entry.name])
        if group is not None:
            found |= flat_defaults(group)
        elif entry.default_factory is not MISSING:
            found[entry.name] = as_json(entry.default_factory())
        elif entry.default is not MISSING:
            found[entry.name] = as_json(entry.default)
    return found
