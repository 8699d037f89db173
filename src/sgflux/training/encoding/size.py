"""The size of a run's pictures, where nobody names one: the model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sgflux.bases.families import family_of
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
    own = family_of(source).picture_size(source)
    side = min(own, LARGEST)
    height, width = pictures.height or side, pictures.width or side
    why = "the model's own size" if side == own else f"half of the model's own {own}"
    if side != own and 2 * side != own:
        why = f"less than the model's own {own}"
    say(f"pictures:   {height} x {width} pixels, as {why}; --height and --width change that")
    return replace(pictures, height=height, width=width)
