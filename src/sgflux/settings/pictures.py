"""The size of the training images, and how a photo is brought to it."""

from __future__ import annotations

from sgflux.settings.checks import ConfigError, Count, settings
from sgflux.settings.shared import Crop


@settings
class PictureSettings:
    """The size of the training images, and how a photo is brought to it."""

    height: Count | None = None
    """Height of the training images in pixels, a multiple of 16 for FLUX. By default it is the
    model's own size, at most 512 (512 for FLUX, 64 for tiny)."""
    width: Count | None = None
    """Width of the training images in pixels, a multiple of 16 for FLUX. By default it is the
    model's own size, at most 512 (512 for FLUX, 64 for tiny)."""
    crop: Crop = "auto"
    """Way in which a photo is brought to --height and --width: 'auto' cuts a window around the
    boxes of its objects where there are any, else around the middle; 'center' cuts the middle;
    'union' cuts around the boxes; 'none' squashes the whole photo."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the training images.

        Raises:
            ConfigError: if one is left to the model, which nobody has read yet.
        """
        if self.height is None or self.width is None:
            raise ConfigError("height and width are the model's own, which nobody has read yet")
        return self.height, self.width
