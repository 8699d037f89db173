"""The families of base models: one line for each, and which family something belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from sgflux.bases.base import Network
from sgflux.bases.family import Family
from sgflux.bases.flux1.family import Flux1
from sgflux.bases.hub import resolve_model_id
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource

FAMILIES: dict[str, Family] = {"flux1": Flux1()}
"""Name of a family, as bundles and checkpoints have it -> the family."""

_UNSAID = "flux1"
"""The family of files that do not name one."""


def family_of(source: ModelSource) -> Family:
    """The family of a base on disk, by the class of pipeline that its folder names.

    A base that names none, or one that no family has, is taken for FLUX.1, whose checks say what is
    wrong with it.
    """
    index = _index(source)
    for family in FAMILIES.values():
        if index in family.pipelines:
            return family
    return FAMILIES[_UNSAID]


def family_in(base: Mapping[str, Any]) -> Family:
    """The family of the base that an adapter's settings describe.

    Raises:
        SgfluxError: if it is unknown.
    """
    name = base.get("family", _UNSAID)
    if not isinstance(name, str) or name not in FAMILIES:
        raise SgfluxError(
            f"the adapter's base is of the family {name!r}; this sgflux knows {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def expect_family(base: Any, family: Family, *, what: str = "the adapter") -> None:
    """Check that a base, as an adapter's settings describe it, is of a family.

    Args:
        base: Description of the base.
        family: Family of the base at hand.
        what: Name of what was trained on that base, for the message.

    Raises:
        SgfluxError: naming both families, or if the adapter's is unknown.
    """
    own = family_in(base if isinstance(base, Mapping) else {})
    if own is not family:
        raise SgfluxError(
            f"{what} was trained on a base of the family {_name(own)!r}, and this base is of "
            f"the family {_name(family)!r}; give a base of the former"
        )


def family_of_transformer(transformer: Any) -> Family:
    """The family of a loaded transformer.

    Raises:
        TypeError: if it is of none.
    """
    for family in FAMILIES.values():
        if isinstance(transformer, family.transformer):
            return family
    raise TypeError(f"{type(transformer).__name__} is no transformer of {', '.join(FAMILIES)}")


def network_of(transformer: Any) -> Network:
    """The network of a loaded transformer, whichever family it is of.

    Raises:
        TypeError: if it is of none.
    """
    return family_of_transformer(transformer).network(transformer)


def described(transformer: Any) -> dict[str, Any]:
    """What an adapter must know of the transformer it was trained on; FLUX.1 is not named in it.

    Raises:
        TypeError: if the transformer is of no family.
    """
    family = family_of_transformer(transformer)
    return {**named(family), **family.describe(transformer)}


def named(family: Family) -> dict[str, str]:
    """The entry of a family in settings and keys: none for FLUX.1, for files of any version."""
    return {} if family is FAMILIES[_UNSAID] else {"family": _name(family)}


def _name(family: Family) -> str:
    return next(name for name, one in FAMILIES.items() if one is family)


def _index(source: ModelSource) -> str | None:
    """The class of pipeline that a base's folder names, if it names one."""
    folder, name = resolve_model_id(source.rest), "model_index.json"
    try:
        if Path(folder).is_dir():
            path = Path(folder, name)
        else:
            local = not source.allow_download
            path = Path(
                hf_hub_download(folder, name, revision=source.revision, local_files_only=local)
            )
        index = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    kind = index.get("_class_name") if isinstance(index, dict) else None
    return kind if isinstance(kind, str) else None
