"""What detectors of transformers have in common: how they are loaded, and their boxes' form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import transformers

from sgflux.bases.hub import why_not_loaded
from sgflux.data.boxes import Box
from sgflux.errors import SgfluxError

NMS_IOU = 0.5
"""Overlap above which the weaker of two boxes of one name is dropped."""


def load(loader: Any, source: str, **options: Any) -> Any:
    """Load from a folder, or from a hub id with ``@revision``, what ``loader`` makes of it.

    A folder is never looked up on the hub; who names a hub id allows its download.

    Raises:
        SgfluxError: naming the source and what is wrong with it.
    """
    name, _, revision = source.partition("@")
    if Path(source).is_dir():
        name, revision, options = source, "", {**options, "local_files_only": True}
    try:
        return loader.from_pretrained(name, revision=revision or "main", **options)
    except (OSError, ValueError, KeyError) as error:
        why = why_not_loaded(error, name, allow_download=True, revision=revision or None)
        raise SgfluxError(f"detector {source!r} cannot be loaded: {why}") from error


def load_network(loader: Any, source: str, device: str) -> Any:
    """Load a network with float32 weights, from safetensors alone, onto a device."""
    network = load(loader, source, use_safetensors=True, dtype="float32")
    return network.to(device).eval()


def load_tokenizer(source: str) -> Any:
    """Load the tokenizer of a folder or hub id."""
    return load(transformers.AutoTokenizer, source)


def relative_box(values: np.ndarray, *, size: tuple[float, float], image: np.ndarray) -> Box:
    """Return the part of a box inside of a picture.

    Args:
        values: (center x, center y, width, height) as parts of ``size``.
        size: Width and height, in pixels, that the values are parts of.
        image: The picture, (H, W, 3).
    """
    x, y, width, height = (float(v) * s for v, s in zip(values, (*size, *size), strict=True))
    return Box.from_center((x, y), width, height).clipped(image.shape[1], image.shape[0])
