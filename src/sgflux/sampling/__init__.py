"""Scene graph and prompt to pictures: FLUX's own sampling, with the adapter in it."""

from sgflux.sampling.command import SampleConfig, sample
from sgflux.sampling.inputs import (
    PipelineOutput,
    adapter_fingerprint,
    loading_settings,
    resolve_device,
    resolve_dtype,
)
from sgflux.sampling.pipeline import SceneGraphFluxPipeline
from sgflux.sampling.saliency_maps import SaliencyConfig, saliency

__all__ = [
    "PipelineOutput",
    "SaliencyConfig",
    "SampleConfig",
    "SceneGraphFluxPipeline",
    "adapter_fingerprint",
    "loading_settings",
    "resolve_device",
    "resolve_dtype",
    "saliency",
    "sample",
]
