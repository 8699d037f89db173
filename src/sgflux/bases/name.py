"""Where an adapter's base is to be found, as its bundle says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from sgflux.errors import located
from sgflux.settings.model_source import FILE_ENDINGS

_BUNDLED = "tiny"


class BaseName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle says of the model that its adapter was trained on.

    Attributes:
        name: a hub id, ``tiny``, or the last part of a path; a path itself is nobody else's
            business.
        model_id: the hub id or ``tiny``; None for a path.
        revision: Revision of the hub's repository; None if none was named.
    """

    name: str
    model_id: str | None
    revision: str | None = None

    @classmethod
    def of(cls, model_id: str | os.PathLike[str], revision: str | None = None) -> BaseName:
        """The record of a model as the commands name it."""
        name = public_name(os.fspath(model_id))
        if name != model_id:
            return cls(name=name, model_id=None)
        return cls(name=name, model_id=name, revision=None if name == _BUNDLED else revision)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; :meth:`from_json` reads it."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_json(cls, entry: object) -> BaseName:
        """Read :meth:`to_json`'s form.

        Raises:
            SgfluxError: if it is another form.
        """
        must = "base_model must have name, model_id and revision"
        with located(f"{must}, got {entry!r}", msgspec.ValidationError):
            return msgspec.convert(entry, cls)


def public_name(source: str) -> str:
    """A hub id or ``tiny`` as it is, and of a path on this machine the last part."""
    if source == _BUNDLED:
        return source
    is_file = source.endswith(FILE_ENDINGS)
    is_path = is_file or source.count("/") != 1 or Path(source).exists()
    return Path(source).name if is_path else source
