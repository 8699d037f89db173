"""What every frozen dataclass of settings checks its values with.

A value may come from Python, from the command line or from JSON; a bad one is an error that names
the setting.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from sgflux.errors import SgfluxError


class ConfigError(SgfluxError):
    """A setting that is unknown, out of range, contradicts another, or would have no effect."""


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number (and no bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def expect(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise a :class:`ConfigError` "``name`` must ``expected``, got ``value``" unless it holds."""
    if not holds:
        raise ConfigError(f"{name} must {expected}, got {value!r}")


def expect_known(settings: Mapping[str, Any], cls: type) -> None:
    """Check that a dataclass has all these settings.

    Raises:
        ConfigError: naming the one it does not have, and the nearest that it has.
    """
    known = [entry.name for entry in fields(cls)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown setting {name!r}{hint}")


def typed(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation ``hint`` wants it; JSON's forms of it are accepted.

    Raises:
        ConfigError: if it cannot be.
    """
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(hint):
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        expect(value in choices, name, value, "be one of " + ", ".join(map(repr, choices)))
    elif hint is Path:
        expect(isinstance(value, str | Path) and str(value) != "", name, value, "be a path")
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
    elif isinstance(value, Mapping):
        expect_known(value, hint)
        return hint(**value)
    else:
        expect(isinstance(value, hint), name, value, f"be a {hint.__name__}")
    return value


def typed_fields(settings: Any) -> None:
    """Make every field of a frozen dataclass what its annotation says.

    Raises:
        ConfigError: naming the field that cannot be.
    """
    hints = typing.get_type_hints(type(settings))
    for entry in fields(settings):
        value = typed(entry.name, getattr(settings, entry.name), hints[entry.name])
        object.__setattr__(settings, entry.name, value)
