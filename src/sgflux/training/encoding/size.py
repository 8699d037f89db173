"""The size of a run's pictures, where nobody names one: the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sgflux.bases.flux1.single_files import described_autoencoder
from sgflux.bases.hub import model_folder
from sgflux.errors import SgfluxError
from sgflux.files.reading import read_json_object
from sgflux.settings.model_source import ModelSource
from sgflux.settings.pictures import PictureSettings

LARGEST = 512
"""Pixels a side that a run trains at unless it is told more: FLUX.1's own 1024 cost four times the
image tokens, and what a relation looks like is to be seen at half the size."""


def with_size(
    pictures: PictureSettings, source: ModelSource, *, say: Callable[[str], None]
) -> PictureSettings:
    """The pictures with both sides of their size; a side that is not given is the model's own.

    Args:
        pictures: Settings of the pictures.
        source: Model that is trained.
        say: Function that shows a line to the user, if a side was not given.

    Raises:
        SgfluxError: if the model is not on this machine, or does not say its size.
    """
    if pictures.height is not None and pictures.width is not None:
        return pictures
    own = model_size(source)
    side = min(own, LARGEST)
    height, width = pictures.height or side, pictures.width or side
    why = "the model's own size" if side == own else f"half of the model's own {own}"
    if side != own and 2 * side != own:
        why = f"less than the model's own {own}"
    say(f"pictures:   {height} x {width} pixels, as {why}; --height and --width change that")
    return replace(pictures, height=height, width=width)


def model_size(source: ModelSource) -> int:
    """Pixels a side of the pictures that a model was made for, as its autoencoder says.

    Raises:
        SgfluxError: if the model is not on this machine, or does not say it.
    """
    if source.autoencoder is not None:
        return int(described_autoencoder(source.autoencoder)["sample_size"])
    path = model_folder(source.rest, **source.hub, parts=["vae"]) / "vae" / "config.json"
    size = read_json_object(path).get("sample_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SgfluxError(
            f"{path}: sample_size, the model's own size, must be a whole number, got {size!r}; "
            "give height and width"
        )
    return size
