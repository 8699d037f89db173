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
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

import tyro

from sgflux.errors import SgfluxError
from sgflux.settings.flat import (
    Flag,
    flag_of,
    flat_hints,
    former_names,
    group_class,
    hints_of,
    is_prefixless,
    settings_class,
    texts_of,
)
from sgflux.settings.foreign_names import own_name

Flags = TypeVar("Flags")

Files = Annotated[
    tuple[Path, ...],
    Flag(is_input=True),
    tyro.conf.Positional,
    tyro.conf.arg(metavar="FILE [FILE ...]"),
]
"""Files that are named without a flag."""


def parse_flags(
    cls: type[Flags],
    arguments: Sequence[str],
    *,
    prog: str | None = None,
    description: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Flags:
    """An instance of a dataclass from the command line.

    Args:
        cls: the dataclass; its fields are the flags, their docstrings the help.
        arguments: the flags, without the program's name.
        prog: the program's name in ``--help``.
        description: Text of ``--help`` above the flags.
        defaults: field -> what it is if no flag says otherwise, in place of the dataclass's own
            default; for a field that is a dataclass itself, such a mapping.

    Raises:
        SgfluxError: on a flag that there is not, and whatever the dataclass raises on what it was
            given.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    arguments = list(_spelt_as_today(former_names(cls), arguments))
    _expect_known_flags(cls, arguments, prog=prog or "the program")
    values: Any = tyro.cli(
        _unchecked(cls, defaults or {}),
        prog=prog,
        description=description,
        args=arguments,
    )
    return _checked(cls, values)


def _spelt_as_today(former: Mapping[str, str], arguments: Sequence[str]) -> Iterator[str]:
    """The arguments with today's name of every flag that is given by a former one."""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        today = former.get(flag.removeprefix("--").replace("-", "_")) if flag[:2] == "--" else None
        yield argument if today is None else f"{_spelt(today)}{equals}{value}"


def _expect_known_flags(cls: type, arguments: Sequence[str], *, prog: str) -> None:
    """Refuse flags that there are not, in one line that says what they are called here.

    tyro would frame the same in several lines, and only after it has found every required flag.
    """
    known = flag_names(cls)
    accepted = {*known, *(f"no_{name}" for name in known), *_OF_TYRO}
    unknown = []
    for argument in arguments:
        if argument == "--":
            break
        name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
        if argument.startswith("--") and name not in accepted:
            hint = own_name(name, known, spell=_spelt)
            unknown.append(f"{argument.partition('=')[0]!r}" + (f" ({hint})" if hint else ""))
    if unknown:
        what = "there is no flag" if len(unknown) == 1 else "there are no flags"
        raise SgfluxError(f"{what} {', '.join(unknown)}; '{prog} --help' lists all that there are")


_OF_TYRO = ("help", "tyro_print_completion", "tyro_write_completion")


def flag_names(cls: type, *, prefix: str = "") -> list[str]:
    """The flags of a dataclass without dashes in front, with underscores, as ``group.name``."""
    names = []
    for name, hint in flat_hints(cls).items():
        if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            continue
        inner = settings_class(hint)
        if inner is None:
            names.append(prefix + name)
        else:
            own = "" if is_prefixless(hint) else f"{name}."
            names += flag_names(inner, prefix=prefix + own)
    return names


def _spelt(name: str) -> str:
    return "--" + name.replace("_", "-")


def _unchecked(
    cls: type,
    defaults: Mapping[str, Any],
    *,
    prefix: str = "",
    said: Mapping[str, str] = MappingProxyType({}),
) -> type:
    """The same fields and the same help without the checks, which would run inside of tyro.

    Args:
        cls: the dataclass.
        defaults: Default settings of :func:`parse_flags`.
        prefix: Beginning of the flags' names.
        said: Texts of some fields that take the place of the class's own.
    """
    body: dict[str, Any] = {"__doc__": cls.__doc__, "__post_init__": _no_check}
    annotations: dict[str, Any] = {}
    hints, texts = hints_of(cls), {**_texts(cls), **said}
    for entry in dataclasses.fields(cls):
        name, hint = entry.name, hints[entry.name]
        inner = settings_class(hint)
        if inner is not None:
            own = defaults if group_class(hint) else defaults.get(name, {})
            more = "" if is_prefixless(hint) else f"{name}."
            hint = _unchecked(inner, own, prefix=prefix + more, said=texts_of(hint))
            body[name] = dataclasses.field()  # tyro asks the class itself for its defaults
        elif name in defaults:
            body[name] = dataclasses.field(default=defaults[name])
        text = " ".join((texts.get(name) or flag_of(hints[name]).help or "").split())
        # tyro calls the box of a group by the group's name, whatever its flags are called.
        box = {"name": text.removesuffix("."), "help": ""}
        shown = {"name": prefix + name, "help": text} if inner is None else box
        annotations[name] = _shown(hint, **shown)
    body["__annotations__"] = annotations
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), body))


def _shown(hint: Any, **changes: Any) -> Any:
    """An annotation with the name and the help of its field in ``--help``."""
    changes |= {"prefix_name": False, "help_behavior_hint": _default_hint}
    marks = getattr(hint, "__metadata__", ())
    plain = get_args(hint)[0] if marks else hint
    own = [mark for mark in marks if hasattr(mark, "prefix_name")]
    rest = [mark for mark in marks if mark not in own]
    arg: Any = dataclasses.replace(own[0], **changes) if own else tyro.conf.arg(**changes)
    return Annotated[(plain, *rest, arg)]


def _default_hint(default: str) -> str:
    """The end of a help line; where there is no default, the line itself says what holds."""
    return "" if default in ("", "None") else f"(default: {default})"


def _texts(cls: type) -> dict[str, str]:
    """Field -> its help as the source has it; tyro would keep the source's line breaks."""
    node: Any = _syntax(cls.__module__)
    for name in cls.__qualname__.replace("<locals>.", "").split("."):
        node = next(inner for inner in ast.walk(node) if getattr(inner, "name", None) == name)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(node.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


@cache
def _syntax(module: str) -> ast.Module:
    """A module's syntax tree; inspect would parse the module again for each of its classes."""
    return ast.parse(inspect.getsource(sys.modules[module]))


def _checked(cls: type[Flags], values: Any) -> Flags:
    """The values as the class that checks them, inner groups first."""
    hints = hints_of(cls)
    settings = {}
    for entry in dataclasses.fields(values):
        value = getattr(values, entry.name)
        inner = settings_class(hints[entry.name])
        settings[entry.name] = value if inner is None else _checked(inner, value)
    return cls(**settings)


def _no_check(self: object) -> None:
    """Take every value."""
