"""The head of an adapter's model card, as the hub reads it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCardData

from sgflux.bases.hub import BUNDLED_MODEL
from sgflux.bases.name import BaseName

_LICENSES: dict[str, dict[str, str]] = {
    BUNDLED_MODEL: {"license": "apache-2.0"},
    "black-forest-labs/FLUX.1-schnell": {"license": "apache-2.0"},
    "black-forest-labs/FLUX.1-dev": {
        "license": "other",
        "license_name": "flux-1-dev-non-commercial-license",
        "license_link": "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    },
}
"""Base -> the licence that an adapter for it cannot go beyond."""


def card_data(base: BaseName) -> ModelCardData:
    """The head of a card: library, pipeline, tags, base model, and the licence where it is known.

    Args:
        base: Name of the base that the adapter was trained on.
    """
    further: dict[str, Any] = dict(_LICENSES.get(base.model_id or "", {}))
    if base.model_id is not None and base.model_id != BUNDLED_MODEL:
        further |= {"base_model": base.model_id, "base_model_relation": "adapter"}
    return ModelCardData(
        library_name="sgflux",
        pipeline_tag="text-to-image",
        tags=["flux", "lora", "scene-graph", "text-to-image"],
        **further,
    )


def license_of(base: BaseName) -> str | None:
    """The licence of a base that is known, by the hub's name of it."""
    found = _LICENSES.get(base.model_id or "", {})
    return found.get("license_name", found.get("license"))
