"""Sampling of pictures from scene graphs and prompts, with FLUX's own schedule.

Names are looked up when they are first used, as in diffusers itself: the settings of a command are
then there without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgflux.sampling.arms import Arm as Arm
    from sgflux.sampling.arms import ArmPicture as ArmPicture
    from sgflux.sampling.arms import draw_arms as draw_arms
    from sgflux.sampling.arms import sample_command as sample_command
    from sgflux.sampling.comparison import sample as sample
    from sgflux.sampling.output import PipelineOutput as PipelineOutput
    from sgflux.sampling.pipeline import SceneGraphFluxPipeline as SceneGraphFluxPipeline
    from sgflux.sampling.saliency_maps import picture_saliency as picture_saliency
    from sgflux.sampling.saliency_maps import saliency as saliency
    from sgflux.settings.sampling import SaliencyConfig as SaliencyConfig
    from sgflux.settings.sampling import SampleConfig as SampleConfig

_MODULES = {
    "Arm": "sgflux.sampling.arms",
    "ArmPicture": "sgflux.sampling.arms",
    "PipelineOutput": "sgflux.sampling.output",
    "SaliencyConfig": "sgflux.settings.sampling",
    "SampleConfig": "sgflux.settings.sampling",
    "SceneGraphFluxPipeline": "sgflux.sampling.pipeline",
    "draw_arms": "sgflux.sampling.arms",
    "picture_saliency": "sgflux.sampling.saliency_maps",
    "saliency": "sgflux.sampling.saliency_maps",
    "sample": "sgflux.sampling.comparison",
    "sample_command": "sgflux.sampling.arms",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import what a name stands for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
