"""Which graph encoders there are, and how one is built from the settings that a bundle keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.graph_encoder import NameFeatures, NativeGraphEncoder

_DEFAULTS: dict[str, dict[str, Any]] = {
    # Adapters that do not say whether triples are numbered are older than the numbers.
    "native": {"hidden_dim": 256, "layers": 2, "number_triples": False},
    "cgip": {
        "embed_dim": 512,
        "hidden_dim": 512,
        "layers": 5,
        "max_relations": 15,
        "synonyms": {},
        "trainable": False,
    },
}


def complete_settings(settings: Mapping[str, Any], *, text_dim: int) -> dict[str, Any]:
    """An encoder's settings with everything that was left out.

    Args:
        settings: ``kind`` and some of the kind's own settings.
        text_dim: width of the base's text features, which the native encoder reads.

    Raises:
        SgfluxError: on an unknown kind or setting, or a missing one that has no default.
    """
    kind = settings.get("kind")
    if kind not in _DEFAULTS:
        raise SgfluxError(f"the encoder's kind must be 'native' or 'cgip', got {dict(settings)!r}")
    own: dict[str, Any] = {"text_dim": text_dim} if kind == "native" else {}
    required = set() if kind == "native" else {"objects", "predicates"}
    complete = {"kind": kind, **own, **_DEFAULTS[kind], **settings}
    unknown = sorted(set(settings) - {"kind", *own, *_DEFAULTS[kind], *required})
    if unknown:
        raise SgfluxError(
            f"the {kind} graph encoder has no setting {', '.join(unknown)}; an adapter that has it "
            "was trained by another version of sgflux: use that one, or train it again"
        )
    for name, value in complete.items():
        if name in _DEFAULTS[kind] and type(value) is not type(_DEFAULTS[kind][name]):
            expected = type(_DEFAULTS[kind][name]).__name__
            raise SgfluxError(
                f"the {kind} graph encoder's {name} must be of type {expected}, got {value!r}"
            )
        is_list = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        if name in required and not is_list:
            raise SgfluxError(
                f"the {kind} graph encoder's {name} must be a list of names, got {value!r:.80}"
            )
    if own and (type(complete["text_dim"]) is not int or complete["text_dim"] < 1):
        raise SgfluxError(
            f"the native graph encoder's text_dim must be a whole number, got "
            f"{complete['text_dim']!r}"
        )
    missing = sorted(required - set(complete))
    if missing:
        raise SgfluxError(f"the {kind} graph encoder needs the setting {', '.join(missing)}")
    return complete


def make_encoder(
    settings: Mapping[str, Any], *, name_features: NameFeatures
) -> NativeGraphEncoder | CGIPEncoder:
    """The untrained encoder of these settings.

    Args:
        settings: Settings of :func:`complete_settings`.
        name_features: features of the graphs' words; the cgip encoder has its own.

    Raises:
        SgfluxError: if a setting is impossible.
    """
    own = {name: value for name, value in settings.items() if name != "kind"}
    if settings["kind"] == "cgip":
        return CGIPEncoder(**own)
    return NativeGraphEncoder(name_features=name_features, **own)
