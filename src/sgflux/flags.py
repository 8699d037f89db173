"""Command-line flags from a frozen dataclass: tyro reads them, the dataclass checks them.

tyro takes a ``ValueError`` of a constructor for a flag that it could not read and frames it in
several lines. Here the values are read first and checked afterwards, so that a bad value is an
ordinary :class:`~sgflux.errors.SgfluxError`, which the command line says in one line.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
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
    annotations: dict[str, Any] = {}
    hints, texts = get_type_hints(cls, include_extras=True), _long_texts(cls)
    for entry in dataclasses.fields(cls):
        hint, factory = hints[entry.name], cast(Any, entry.default_factory)
        inner = _settings_class(hint)
        # A group of settings that starts as its own defaults.
        if inner is not None and factory is inner:
            made: Any = _unchecked(inner)
            marks = getattr(hint, "__metadata__", ())
            annotations[entry.name] = Annotated[(made, *marks)] if marks else made
            body[entry.name] = dataclasses.field(default_factory=made)
        elif entry.name in texts and get_origin(hint) is not Annotated:
            annotations[entry.name] = Annotated[hint, tyro.conf.arg(help=texts[entry.name])]
    body["__annotations__"] = annotations
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), body))


def _long_texts(cls: type) -> dict[str, str]:
    """Field -> help of several lines as one; tyro would keep the line breaks of the source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(definition.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
            and "\n" in text.value.value
        ):
            found[field.target.id] = " ".join(text.value.value.split())
    return found


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
