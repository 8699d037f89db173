"""What every frozen dataclass of settings checks its values with.

A value may come from Python, from the command line or from JSON; a bad one is an error that names
the setting.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from sgflux.errors import SgfluxError
from sgflux.settings.flat import (
    Settings,
    flat_hints,
    former_names,
    group_class,
    hints_of,
    settings_class,
)
from sgflux.settings.foreign_names import own_name


class ConfigError(SgfluxError):
    """A setting that is unknown, out of range, contradicts another, or would have no effect."""


@dataclass(frozen=True)
class Must:
    """Mark of an annotation: what a value must be beside its type.

    Attributes:
        expected: The condition, as it follows the setting's name and "must".
        holds: Function that tests a value.
    """

    expected: str
    holds: Callable[[Any], bool]


_AT_LEAST_0 = Must("be at least 0", lambda value: value >= 0)

Whole = Annotated[int, _AT_LEAST_0]
Count = Annotated[int, Must("be at least 1", lambda value: value >= 1)]
NotNegative = Annotated[float, _AT_LEAST_0]
Positive = Annotated[float, Must("be greater than 0", lambda value: value > 0)]
Share = Annotated[float, Must("lie between 0 and 1", lambda value: 0 <= value <= 1)]
PartialShare = Annotated[float, Must("be at least 0 and less than 1", lambda value: 0 <= value < 1)]

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[Class]) -> type[Class]:
    """Make a class a frozen dataclass of keywords, whose fields are checked when it is built.

    Each field becomes what its annotation says, or the construction raises a :class:`ConfigError`
    that names it. Whether the fields go together is for a ``__post_init__`` of the class to check,
    which runs afterwards.
    """
    together = vars(cls).get("__post_init__", lambda _: None)

    def check(self: Any) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, typed(name, getattr(self, name), hint))
        together(self)

    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number (and no bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def expect(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise a :class:`ConfigError` "``name`` must ``expected``, got ``value``" unless it holds."""
    if not holds:
        got = repr(value)
        short = got if len(got) <= 200 else f"{got[:200]}..."
        raise ConfigError(f"{name} must {expected}, got {short}")


def known_settings(settings: Mapping[str, Any], cls: type, *, group: str = "") -> dict[str, Any]:
    """These settings by the names that a dataclass has for them today.

    Args:
        settings: Name of today or of an earlier version -> value.
        cls: the dataclass.
        group: the settings' own name and a dot, if they are a group of others.

    Raises:
        ConfigError: naming the one it does not have, and what it is called here, or one that is
            given under two names.
    """
    known, former = flat_hints(cls), former_names(cls)
    found: dict[str, Any] = {}
    for given, value in settings.items():
        name = former.get(given, given)
        if name not in known:
            hint = own_name(str(name), setting_names(cls, prefix=group))
            if isinstance(value, Mapping) and known.keys() & value:
                hint = f"its settings stand beside the others, without {str(name)!r} above them"
            raise ConfigError(f"unknown setting {group + str(name)!r}{hint and f'; {hint}'}")
        if name in found:
            raise ConfigError(f"{name} is given twice, also by a former name; give it once")
        found[name] = value
    return found


def setting_names(cls: type, *, prefix: str = "") -> list[str]:
    """The settings of a dataclass; those of a group inside of it as ``group.name``."""
    names = []
    for name, hint in flat_hints(cls).items():
        names.append(prefix + name)
        if (inner := settings_class(hint)) is not None:
            names += setting_names(inner, prefix=f"{prefix}{name}.")
    return names


def typed_settings(settings: Mapping[str, Any], cls: type, *, group: str = "") -> dict[str, Any]:
    """Some of a dataclass's settings, as its annotations want them.

    Whether they go together is for the dataclass to say, when all of them are known.

    Args:
        settings: name -> value, in JSON's or TOML's form; groups are objects or tables.
        cls: the dataclass.
        group: the settings' own name and a dot, if they are a group of others.

    Raises:
        ConfigError: naming the setting that is unknown or has a wrong value.
    """
    hints = flat_hints(cls)
    values = {}
    for name, value in known_settings(settings, cls, group=group).items():
        hint, full = hints[name], group + name
        if (inner := settings_class(hint)) is not None:
            given = isinstance(value, Mapping)
            expect(given, full, value, "be a table of settings")
            values[name] = typed_settings(value, inner, group=f"{full}.")
        else:
            values[name] = typed(full, value, hint)
    return values


def typed(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` wants it; JSON's forms of it are accepted.

    Raises:
        ConfigError: if it cannot be.
    """
    if typing.get_origin(hint) is Annotated:
        hint, *marks = typing.get_args(hint)
        value = typed(name, value, hint)
        for mark in marks:
            if isinstance(mark, Must):
                expect(mark.holds(value), name, value, mark.expected)
        return value
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(hint):
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        return typed(name, value, hint)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        expect(value in choices, name, value, "be one of " + ", ".join(map(repr, choices)))
    elif hint is Path:
        good = isinstance(value, str | Path) and str(value) != "" and "\0" not in str(value)
        expect(good, name, value, "be a path")
        return Path(value)
    elif hint is bool:
        expect(isinstance(value, bool), name, value, "be true or false")
    elif hint is int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        expect(is_int, name, value, "be a whole number")
    elif hint is float:
        expect(is_number(value), name, value, "be a finite number")
        return float(value)
    elif hint is str:
        expect(isinstance(value, str) and value != "", name, value, "be a non-empty text")
    elif typing.get_origin(hint) is tuple:  # of one kind, and of any length
        expect(isinstance(value, list | tuple), name, value, "be a list")
        return tuple(typed(name, one, typing.get_args(hint)[0]) for one in value)
    elif typing.get_origin(hint) is Mapping:
        expect(isinstance(value, Mapping), name, value, "be a table")
    elif isinstance(value, Mapping):
        return from_flat(hint, value)
    else:
        expect(isinstance(value, hint), name, value, f"be a {hint.__name__}")
    return value


def from_flat(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A dataclass from the settings of all its groups; what is not mentioned has its default.

    Raises:
        ConfigError: on an unknown or missing setting, or as the constructors.
    """
    values = known_settings(values, cls)
    missing = _missing(cls, values)
    if missing:
        raise ConfigError(f"missing settings: {', '.join(missing)}")
    return _built(cls, values)


def _built(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    own: dict[str, Any] = {}
    for name, hint in hints_of(cls).items():
        group = group_class(hint)
        if group is not None:
            own[name] = _built(group, values)
        elif name in values:
            own[name] = values[name]
    return cls(**own)


def _missing(cls: Any, values: Mapping[str, Any]) -> list[str]:
    hints = hints_of(cls)
    missing = []
    for entry in fields(cls):
        group = group_class(hints[entry.name])
        if group is not None:
            missing += _missing(group, values)
        elif entry.name not in values and entry.default is MISSING is entry.default_factory:
            missing.append(entry.name)
    return missing


def expect_least(settings: Any, least: int, *names: str) -> None:
    """Check that these settings, as far as they are given, are not below ``least``.

    Raises:
        ConfigError: naming the first that is.
    """
    for name in names:
        value = getattr(settings, name)
        expect(value is None or value >= least, name, value, f"be at least {least}")


def expect_defaults(settings: Any, when: str, *names: str, more: str = "") -> None:
    """Check that settings which have no effect have their default.

    Args:
        settings: a dataclass.
        when: Condition under which they have no effect, like "without val_jsonl".
        names: Names of the settings.
        more: Further words on the way out.

    Raises:
        ConfigError: naming the first that was set.
    """
    defaults = {
        entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
        for entry in fields(settings)
    }
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name]:
            shown = repr(str(value) if isinstance(value, Path) else value)
            raise ConfigError(f"{name} ({shown}) has no effect {when}; leave it out{more}")
