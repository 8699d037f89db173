"""The 24 canonical predicates: their aliases, kinds, inverses, and how a user extends them.

Everything here is data about words. A :class:`PredicateVocabulary` is frozen; extending one gives
a new one, in which the class ids of the old one are unchanged. Two words for the same predicate
are found by exact match without regard to case, white space, leading copulas and trailing articles
("is wearing a" is "wearing"), and by the listed wordings; nothing is guessed.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from sgflux.errors import SgfluxError, located
from sgflux.files.reading import read_json_object, table_beside
from sgflux.graphs.wordings import bare, other_wordings


class PredicateKind(StrEnum):
    """Kind of evidence that shows in a picture whether a predicate holds."""

    SPATIAL = "spatial"
    """Where the two are relative to each other: positions and depth decide."""
    CONTACT = "contact"
    """One touches, supports or covers the other; nobody has to do anything."""
    ACTION = "action"
    """The subject does something to, with or towards the object."""


_TABLE = table_beside(__file__)
"""Canonical name -> its entry in predicates.toml, whose head explains the fields."""

CANONICAL_PREDICATES: tuple[str, ...] = tuple(sorted(_TABLE))
"""The 24 canonical predicates in alphabetical order: a predicate's class id is its index here."""

CGIP_PREDICATES: tuple[str, ...] = tuple(
    name for name in CANONICAL_PREDICATES if _TABLE[name].get("in_sgdiff", True)
)
"""The 16 canonical predicates that SGDiff's Visual Genome vocabulary can express."""


class UnknownPredicateError(SgfluxError):
    """A word that the vocabulary has neither as a predicate nor as an alias.

    Attributes:
        value: Word as it was given.
        nearest: Known words that look like it, best first; may be empty.
    """

    def __init__(self, value: str, nearest: tuple[str, ...] = ()) -> None:
        """Keep the word and the known words nearest to it, and say both in the message."""
        self.value = value
        self.nearest = nearest
        names = ", ".join(repr(name) for name in nearest)
        hint = f"nearest known: {names}" if nearest else "no known name is near it"
        super().__init__(f"unknown predicate {value!r}; {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value, so that the error survives a data loader's worker process."""
        return type(self), (self.value, self.nearest)


def clean(text: str) -> str:
    """Return ``text`` in lower case, stripped, each run of white space as one blank.

    Raises:
        SgfluxError: if ``text`` is no string.
    """
    if not isinstance(text, str):
        raise SgfluxError(f"a predicate must be a string, got {text!r}")
    return _cleaned(text)


# The same few words are asked about a thousand times for every picture of a large data set.
@lru_cache(maxsize=2**16)
def _cleaned(text: str) -> str:
    return " ".join(text.lower().split())


def _key(text: str) -> str:
    # White space never tells two predicates apart, so "infront of" is "in front of".
    return clean(text).replace(" ", "")


@dataclass(frozen=True, kw_only=True)
class PredicateVocabulary:
    """Which predicates there are, which other words mean them, and how they relate.

    Every method accepts a canonical name, an alias or one of the wordings of
    :mod:`sgflux.graphs.wordings`, without regard to case and white space.

    Attributes:
        names: Canonical names; a predicate's class id is its index.
        aliases: Alias -> canonical name.
        inverses: Canonical name -> canonical name, both ways round.
        symmetric: Canonical names p for which "A p B" and "B p A" are the same statement.
        kinds: Canonical name -> :class:`PredicateKind`, complete.

    Raises:
        SgfluxError: when built from tables that contradict each other; the message names the entry.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, str]
    inverses: Mapping[str, str]
    symmetric: frozenset[str]
    kinds: Mapping[str, PredicateKind]
    _canonical_by_key: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Freeze the tables and check them against each other."""
        by_key: dict[str, str] = {}
        for name in self.names:
            if clean(name) != name or not name:
                raise SgfluxError(
                    f"predicate name {name!r} must be non-empty, in lower case and without "
                    "superfluous white space"
                )
            if _key(name) in by_key:
                raise SgfluxError(f"predicate name {name!r} is given twice")
            by_key[_key(name)] = name
        names = frozenset(self.names)
        aliases: dict[str, str] = {}
        for alias, name in self.aliases.items():
            if not clean(alias):
                raise SgfluxError(f"the alias {alias!r} of {name!r} is empty")
            if name not in names:
                raise SgfluxError(f"alias {alias!r} means {name!r}, which is no predicate")
            taken = by_key.setdefault(_key(alias), name)
            if taken != name:
                raise SgfluxError(
                    f"alias {alias!r} cannot mean {name!r}: it already means {taken!r}"
                )
            aliases[clean(alias)] = name
        for name, inverse in self.inverses.items():
            if name not in names or inverse not in names:
                raise SgfluxError(f"inverse pair {name!r}/{inverse!r} names an unknown predicate")
            if name == inverse:
                raise SgfluxError(f"{name!r} as its own inverse: list it as symmetric instead")
            if self.inverses.get(inverse) != name:
                raise SgfluxError(f"{inverse!r} is the inverse of {name!r}, but not the reverse")
        for name in sorted(self.symmetric):
            if name not in names:
                raise SgfluxError(f"symmetric predicate {name!r} is unknown")
            if name in self.inverses:
                raise SgfluxError(f"{name!r} cannot be symmetric and have an inverse")
        if set(self.kinds) != names:
            raise SgfluxError(f"kinds and names differ in {sorted(set(self.kinds) ^ names)}")
        freeze = object.__setattr__
        freeze(self, "names", tuple(self.names))
        freeze(self, "aliases", MappingProxyType(aliases))
        freeze(self, "inverses", MappingProxyType(dict(self.inverses)))
        freeze(self, "symmetric", frozenset(self.symmetric))
        freeze(self, "kinds", MappingProxyType(dict(self.kinds)))
        freeze(self, "_canonical_by_key", MappingProxyType(by_key))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the plain tables (mapping proxies do not pickle)."""
        tables = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}
        for name in ("aliases", "inverses", "kinds"):
            tables[name] = dict(tables[name])
        return partial(PredicateVocabulary, **tables), ()

    def __hash__(self) -> int:
        """Hash of names and aliases, in agreement with equality."""
        return hash((self.names, frozenset(self.aliases.items())))

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        """Canonical names in the order of their class ids."""
        return iter(self.names)

    def __contains__(self, text: object) -> bool:
        """Whether ``text`` is a canonical name, an alias or a wording of one."""
        return isinstance(text, str) and self._known(text) is not None

    def canonical(self, text: str) -> str:
        """Return the canonical name of ``text``.

        Raises:
            UnknownPredicateError: if ``text`` is neither a canonical name nor an alias, nor a
                wording of one.
        """
        name = self._known(text)
        if name is None:
            raise UnknownPredicateError(text, self.nearest(text))
        return name

    def nearest(self, text: str) -> tuple[str, ...]:
        """Return up to three names and aliases that look like ``text``, best first."""
        known = [*self.names, *self.aliases]
        return tuple(difflib.get_close_matches(clean(text), known))

    def normalize(self, text: str) -> str:
        """Return the canonical name if there is one, else the cleaned text: an open vocabulary.

        The cleaned text has no leading copulas and no trailing articles ("is kicking a" is
        "kicking").

        Raises:
            SgfluxError: if ``text`` is empty or no string.
        """
        cleaned = clean(text)
        if not cleaned:
            raise SgfluxError(f"a predicate must not be empty, got {text!r}")
        return self._known(text) or bare(cleaned)

    def _known(self, text: str) -> str | None:
        """Return the canonical name by the tables, else by another wording, else None."""
        name = self._canonical_by_key.get(_key(text))
        if name is None:
            keys = map(_key, other_wordings(clean(text)))
            name = next(filter(None, map(self._canonical_by_key.get, keys)), None)
        return name

    def class_id(self, name: str) -> int:
        """Return the class id of a predicate: its index in ``names``.

        Raises:
            UnknownPredicateError: if ``name`` is not known.
        """
        return self.names.index(self.canonical(name))

    def kind(self, name: str) -> PredicateKind:
        """Return the kind of a predicate.

        Raises:
            UnknownPredicateError: if ``name`` is not known.
        """
        return self.kinds[self.canonical(name)]

    def inverse(self, name: str) -> str | None:
        """Return the q with "A name B" = "B q A"; None if none is known or the word is unknown."""
        return self.inverses.get(self.normalize(name))

    def is_symmetric(self, name: str) -> bool:
        """Whether "A name B" and "B name A" are the same statement; False for an unknown word."""
        return self.normalize(name) in self.symmetric

    def is_asymmetric(self, name: str) -> bool:
        """Whether swapping subject and object gives another statement.

        False for an unknown word as well: of it, nothing is known either way.
        """
        name = self.normalize(name)
        return name in self.kinds and name not in self.symmetric

    def with_aliases(self, aliases: Mapping[str, str]) -> PredicateVocabulary:
        """Return a vocabulary that also knows ``aliases``: {alias: canonical name or known alias}.

        Raises:
            UnknownPredicateError: if an alias is to mean an unknown predicate.
            SgfluxError: if an alias is empty or already means something else.
        """
        added = {alias: self.canonical(target) for alias, target in aliases.items()}
        for alias, target in added.items():
            taken = self._canonical_by_key.get(_key(alias), target)
            if taken != target:
                raise SgfluxError(f"alias {alias!r} of {target!r} already means {taken!r}")
        return replace(self, aliases={**self.aliases, **added})

    def with_predicate(
        self,
        name: str,
        *,
        kind: PredicateKind | str,
        symmetric: bool = False,
        inverse: str | None = None,
    ) -> PredicateVocabulary:
        """Return a vocabulary with one more predicate, whose class id is the next free one.

        Args:
            name: New canonical name; must not be known yet.
            kind: Kind of evidence that shows it in a picture.
            symmetric: Whether "A name B" is "B name A".
            inverse: Known predicate q with "A name B" = "B q A", if there is one.

        Raises:
            SgfluxError: if the name is taken or empty, the kind or the inverse unknown, the
                inverse already another's, or ``symmetric`` and ``inverse`` both given.
        """
        name = clean(name)
        if (taken := self._canonical_by_key.get(_key(name))) is not None:
            raise SgfluxError(f"predicate {name!r} is already known as {taken!r}")
        inverses = dict(self.inverses)
        if inverse is not None:
            other = self.canonical(inverse)
            if other in inverses:
                raise SgfluxError(
                    f"{other!r} cannot be the inverse of {name!r}: "
                    f"it already is that of {inverses[other]!r}"
                )
            inverses.update({name: other, other: name})
        return replace(
            self,
            names=(*self.names, name),
            inverses=inverses,
            symmetric=self.symmetric | ({name} if symmetric else set()),
            kinds={**self.kinds, name: _kind(kind, name)},
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> PredicateVocabulary:
        """Return the default vocabulary, extended by a JSON file.

        The file holds one object; both entries are optional::

            {"predicates": [{"name": "kicking", "kind": "action"},
                            {"name": "parallel to", "kind": "spatial", "symmetric": true},
                            {"name": "part of", "kind": "contact"},
                            {"name": "made of", "kind": "contact", "inverse": "part of"}],
             "aliases": {"kicks": "kicking", "atop": "on"}}

        Predicates are added in the order of the file and get the class ids 24, 25, ...

        Raises:
            SgfluxError: if the file cannot be read or is no such JSON; the message names the file
                and the entry.
        """
        extension = read_json_object(path)
        with located(path):
            return DEFAULT_VOCABULARY.extended_by(extension)

    def extended_by(self, extension: Mapping[str, Any]) -> PredicateVocabulary:
        """Return this vocabulary plus the content of an extension file (see :meth:`from_json`).

        Raises:
            SgfluxError: on an unknown field or a malformed or contradictory entry, which is named.
        """
        _expect_fields(extension, "the extension", allowed={"predicates", "aliases"})
        predicates = extension.get("predicates", [])
        aliases = extension.get("aliases", {})
        if not isinstance(predicates, list):
            raise SgfluxError(f"'predicates' must be a list of objects, got {predicates!r}")
        if not isinstance(aliases, Mapping):
            raise SgfluxError(f"'aliases' must be an object, got {aliases!r}")
        vocabulary = self
        for position, entry in enumerate(predicates):
            where = f"predicates[{position}]"
            _expect_fields(entry, where, allowed={"name", "kind", "symmetric", "inverse"})
            if not {"name", "kind"} <= set(entry):
                raise SgfluxError(f"{where}: needs 'name' and 'kind', got {entry!r}")
            if not isinstance(entry.get("symmetric", False), bool):
                raise SgfluxError(f"{where}: 'symmetric' must be true or false, got {entry!r}")
            with located(where):
                vocabulary = vocabulary.with_predicate(**entry)
        return vocabulary.with_aliases(aliases)


def _kind(value: PredicateKind | str, name: str) -> PredicateKind:
    try:
        return PredicateKind(value)
    except ValueError:
        expected = ", ".join(repr(str(kind)) for kind in PredicateKind)
        raise SgfluxError(
            f"kind of predicate {name!r} must be one of {expected}, got {value!r}"
        ) from None


def _expect_fields(entry: object, where: str, *, allowed: set[str]) -> None:
    if not isinstance(entry, Mapping):
        raise SgfluxError(f"{where} must be an object, got {entry!r}")
    unknown = sorted(set(entry) - allowed)
    if unknown:
        raise SgfluxError(f"{where}: unknown fields {unknown}; expected among {sorted(allowed)}")


DEFAULT_VOCABULARY = PredicateVocabulary(
    names=CANONICAL_PREDICATES,
    aliases={alias: name for name, entry in _TABLE.items() for alias in entry["aliases"]},
    inverses={name: entry["inverse"] for name, entry in _TABLE.items() if "inverse" in entry},
    symmetric=frozenset(name for name, entry in _TABLE.items() if entry.get("symmetric")),
    kinds={name: PredicateKind(entry["kind"]) for name, entry in _TABLE.items()},
)
"""The 24 canonical predicates with the aliases that the documentation lists."""


def vocabulary_of(path: str | os.PathLike[str] | None) -> PredicateVocabulary:
    """Return the vocabulary of an extension file; the default one for None.

    Raises:
        SgfluxError: as :meth:`PredicateVocabulary.from_json`.
    """
    return DEFAULT_VOCABULARY if path is None else PredicateVocabulary.from_json(path)
