"""Command-line flags from a frozen dataclass: tyro reads them, the dataclass checks them.

tyro takes a ``ValueError`` of a constructor for a flag that it could not read and frames it in
several lines. Here the values are read first and checked afterwards, so that a bad value is an
ordinary :class:`~sgflux.errors.SgfluxError`, which the command line says in one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

Flags = TypeVar("Flags")


def parse_flags(
    cls: type[Flags],
    arguments: Sequence[str],
    *,
    prog: str | None = None,
    description: str | None = None,
    config: Sequence[Any] = (),
) -> Flags:
    """An instance of a dataclass from the command line.

    Args:
        cls: the dataclass; its fields are the flags, their docstrings the help.
        arguments: the flags, without the program's name.
        prog: the program's name in ``--help``.
        description: what ``--help`` says above the flags.
        config: markers of ``tyro.conf``.

    Raises:
        SgfluxError: whatever the dataclass raises on what it was given.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    values: Any = tyro.cli(
        _unchecked(cls),
        prog=prog,
        description=description,
        args=list(arguments),
        config=tuple(config),
    )
    return _checked(cls, values)


def _unchecked(cls: type) -> type:
    """The same fields and the same help without the checks, which would run inside of tyro."""
    body: dict[str, Any] = {"__doc__": cls.__doc__, "__post_init__": _no_check}
    annotations = {}
    hints = get_type_hints(cls, include_extras=True)
    for entry in dataclasses.fields(cls):
        inner, factory = _settings_class(hints[entry.name]), cast(Any, entry.default_factory)
        # A group of settings that starts as its own defaults.
        if inner is not None and factory is inner:
            made: Any = _unchecked(inner)
            marks = getattr(hints[entry.name], "__metadata__", ())
            annotations[entry.name] = Annotated[(made, *marks)] if marks else made
            body[entry.name] = dataclasses.field(default_factory=made)
    body["__annotations__"] = annotations
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), body))


def _checked(cls: type[Flags], values: Any) -> Flags:
    """The values as the class that checks them, inner groups first."""
    hints = get_type_hints(cls)
    settings = {}
    for entry in dataclasses.fields(values):
        value = getattr(values, entry.name)
        inner = _settings_class(hints[entry.name])
        settings[entry.name] = value if inner is None else _checked(inner, value)
    return cls(**settings)


def _settings_class(hint: Any) -> type | None:
    """The dataclass that an annotation means, if it means one."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _no_check(self: object) -> None:
    """Take every value."""
