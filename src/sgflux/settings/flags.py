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
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

from sgflux.errors import SgfluxError
from sgflux.settings.foreign_names import own_name

Flags = TypeVar("Flags")


def parse_flags(
    cls: type[Flags],
    arguments: Sequence[str],
    *,
    prog: str | None = None,
    description: str | None = None,
    config: Sequence[Any] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Flags:
    """An instance of a dataclass from the command line.

    Args:
        cls: the dataclass; its fields are the flags, their docstrings the help.
        arguments: the flags, without the program's name.
        prog: the program's name in ``--help``.
        description: what ``--help`` says above the flags.
        config: markers of ``tyro.conf``.
        defaults: field -> what it is if no flag says otherwise, in place of the dataclass's own
            default; for a field that is a dataclass itself, such a mapping.

    Raises:
        SgfluxError: on a flag that there is not, and whatever the dataclass raises on what it was
            given.
        SystemExit: after ``--help``, or on flags that cannot be read (with a message).
    """
    _expect_known_flags(cls, arguments, prog=prog or "the program")
    values: Any = tyro.cli(
        _unchecked(cls, defaults or {}),
        prog=prog,
        description=description,
        args=list(arguments),
        config=tuple(config),
    )
    return _checked(cls, values)


def _expect_known_flags(cls: type, arguments: Sequence[str], *, prog: str) -> None:
    """Refuse flags that there are not, in one line that says what they are called here.

    tyro would frame the same in several lines, and only after it has found every required flag.
    """
    known = flag_names(cls)
    accepted = {*known, *map(_negated, known), *_OF_TYRO}
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
    for name, hint in get_type_hints(cls, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Positional in marks:
            continue
        inner = _settings_class(hint)
        if inner is None:
            names.append(prefix + name)
        else:
            shown = next((mark.name for mark in marks if hasattr(mark, "name")), None)
            own = name if shown is None else shown
            names += flag_names(inner, prefix=f"{prefix}{own}." if own else prefix)
    return names


def _negated(name: str) -> str:
    """The other form of the flag of a bool."""
    group, dot, last = name.rpartition(".")
    return f"{group}{dot}no_{last}"


def _spelt(name: str) -> str:
    return "--" + name.replace("_", "-")


def _unchecked(cls: type, defaults: Mapping[str, Any]) -> type:
    """The same fields and the same help without the checks, which would run inside of tyro."""
    body: dict[str, Any] = {"__doc__": cls.__doc__, "__post_init__": _no_check}
    annotations: dict[str, Any] = {}
    hints, texts = get_type_hints(cls, include_extras=True), _texts(cls)
    for entry in dataclasses.fields(cls):
        hint, factory = hints[entry.name], cast(Any, entry.default_factory)
        inner = _settings_class(hint)
        # A group of settings that starts as its own defaults.
        if inner is not None and factory is inner:
            made: Any = _unchecked(inner, defaults.get(entry.name, {}))
            marks = getattr(hint, "__metadata__", ())
            annotations[entry.name] = Annotated[(made, *marks)] if marks else made
            body[entry.name] = dataclasses.field(default_factory=made)
            continue
        text = texts.get(entry.name)
        given = entry.name in defaults
        if given or (text is not None and "\n" in text):
            help_text = "" if text is None else " ".join(text.split())
            plain = get_origin(hint) is not Annotated
            annotations[entry.name] = (
                Annotated[hint, tyro.conf.arg(help=help_text)] if plain and help_text else hint
            )
        if given:
            body[entry.name] = dataclasses.field(default=defaults[entry.name])
    body["__annotations__"] = annotations
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), body))


def _texts(cls: type) -> dict[str, str]:
    """Field -> its help as the source has it; tyro would keep the source's line breaks."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


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
