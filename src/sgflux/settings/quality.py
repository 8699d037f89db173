"""How the quality of an evaluation's pictures is measured."""

from __future__ import annotations

from typing import Literal

from sgflux.settings.checks import settings


@settings
class QualitySettings:
    """How the quality of an evaluation's pictures is measured."""

    quality_features: str | None = None
    """Network on whose features the pictures of every arm are compared with the base's:
    'inception' gives FID and KID; 'world' is that of the world judge; and the folder or hub id of a
    vision model of transformers (DINOv2, CLIP) is downloaded if the cache lacks it."""
    lpips: Literal["alex", "vgg", "squeeze"] | None = None
    """Backbone of LPIPS, the perceptual distance between pictures of equal noise in two arms."""
