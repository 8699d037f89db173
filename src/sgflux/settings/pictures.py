"""The size of the pictures, and how a photo gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgflux.settings.checks import ConfigError, expect_least, typed_fields


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """The size of the pictures, and how a photo gets it."""

    height: int | None = None
    """Height of the training images in pixels, a multiple of 16 for FLUX; None: the model's own
    size, at most 512 (512 for FLUX, 64 for tiny)."""
    width: int | None = None
    """Width of the training images in pixels; None: the model's own size, at most 512."""
    crop: Literal["auto", "none", "center", "union"] = "auto"
    """How a photo gets that shape: 'auto' keeps its own (a window around the boxes of its objects
    where there are any, else the middle); 'none' squashes all of it."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        expect_least(self, 1, "height", "width")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the training images.

        Raises:
            ConfigError: if one is left to the model, which nobody has read yet.
        """
        if self.height is None or self.width is None:
            raise ConfigError("height and width are the model's own, which nobody has read yet")
        return self.height, self.width
