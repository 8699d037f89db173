"""Which graph encoders there are, and how one is built from the settings that a bundle keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from sgflux.errors import SgfluxError
from sgflux.models.cgip import CGIPEncoder
from sgflux.models.graph_encoder import NativeGraphEncoder
from sgflux.models.layout import LayoutPredictor
from sgflux.models.name_features import NameFeatures
from sgflux.settings.graph_encoder import BOX_SETTINGS


class _Native(msgspec.Struct, tag_field="kind", tag="native", forbid_unknown_fields=True):
    text_dim: Annotated[int, msgspec.Meta(ge=1)]
    hidden_dim: int = 256
    layers: int = 2
    # Adapters that do not say whether triples are numbered are older than the numbers.
    number_triples: bool = False
    read_boxes: bool = False
    box_positions: bool = False
    box_attention: bool = False
    box_map: bool = False
    predict_layout: bool = False

    def __post_init__(self) -> None:
        if self.predict_layout and not any(getattr(self, name) for name in BOX_SETTINGS):
            raise ValueError(f"predict_layout needs {' or '.join(BOX_SETTINGS)}")
        if self.box_map and not self.box_attention:
            raise ValueError("box_map needs box_attention")


class _CGIP(msgspec.Struct, tag_field="kind", tag="cgip", forbid_unknown_fields=True, kw_only=True):
    embed_dim: int = 512
    hidden_dim: int = 512
    layers: int = 5
    max_relations: int = 15
    synonyms: dict[str, str] = {}
    trainable: bool = False
    objects: list[str]
    predicates: list[str]


def complete_settings(settings: Mapping[str, Any], *, text_dim: int) -> dict[str, Any]:
    """An encoder's settings with everything that was left out.

    Args:
        settings: ``kind`` and some of the kind's own settings.
        text_dim: Width of the base's text features, which the native encoder reads.

    Raises:
        SgfluxError: on an unknown kind or setting, one of a wrong type, or a missing one that has
            no default.
    """
    own = {"text_dim": text_dim} if settings.get("kind") == "native" else {}
    try:
        complete = msgspec.convert({**own, **settings}, _Native | _CGIP)
    except msgspec.ValidationError as error:
        raise SgfluxError(
            f"the settings of the graph encoder are damaged, or those of another version of "
            f"sgflux: {error}. Use that version, or train the adapter again"
        ) from error
    found = dict(msgspec.to_builtins(complete))
    # An adapter without boxes has the settings of one from before there were any.
    later = (*BOX_SETTINGS, "predict_layout")
    return {name: value for name, value in found.items() if value or name not in later}


def make_encoder(
    settings: Mapping[str, Any], *, name_features: NameFeatures
) -> NativeGraphEncoder | CGIPEncoder:
    """The untrained encoder of these settings.

    Args:
        settings: Settings of :func:`complete_settings`.
        name_features: Features of the graphs' names; the cgip encoder has its own.

    Raises:
        SgfluxError: if a setting is impossible.
    """
    own = {name: value for name, value in settings.items() if name != "kind"}
    if settings["kind"] == "cgip":
        return CGIPEncoder(**own)
    layout = None
    if own.pop("predict_layout", False):
        layout = LayoutPredictor(text_dim=own["text_dim"])
    return NativeGraphEncoder(name_features=name_features, layout=layout, **own)
