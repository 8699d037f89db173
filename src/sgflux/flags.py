"""Command-line flags from a frozen dataclass: tyro reads them, the dataclass checks them.

tyro takes a ``ValueError`` of a constructor for a flag that it could not read and frames it in
several lines. Here the values are read first and checked afterwards, so that a bad value is an
ordinary :class:`~sgflux.errors.SgfluxError`, which the command line says in one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

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
    # The same fields and the same help without the checks, which would run inside of tyro.
    unchecked = type(cls.__name__, (cls,), {"__doc__": cls.__doc__, "__post_init__": _no_check})
    values: Any = tyro.cli(
        unchecked, prog=prog, description=description, args=list(arguments), config=tuple(config)
    )
    return cls(**{field.name: getattr(values, field.name) for field in dataclasses.fields(values)})


def _no_check(self: object) -> None:
    """Take every value."""
