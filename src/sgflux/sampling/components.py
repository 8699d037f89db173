"""An adapter on the components of a diffusers pipeline that somebody else has loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sgflux.bases.families import family_of_transformer
from sgflux.bases.family import Components
from sgflux.errors import SgfluxError
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import find_bundle, read_drawing
from sgflux.sampling.loading import adapter_fingerprint, adapter_on
from sgflux.sampling.pipeline import SceneGraphFluxPipeline


@dataclass
class ComponentsPipeline:
    """A pipeline over a diffusers pipeline's own modules, on whatever device those are.

    Attributes:
        pipeline: Pipeline that draws.
    """

    pipeline: SceneGraphFluxPipeline

    def follow(self, components: Any) -> None:
        """Move the adapter's parts to where the diffusers pipeline's transformer is now.

        Raises:
            SgfluxError: if the pipeline moves modules to and fro while it draws.
        """
        if getattr(components, "_offload_device", None) is not None or hasattr(
            components.transformer, "_hf_hook"
        ):
            raise SgfluxError(
                "the adapter looks into blocks of the transformer, which diffusers' offloading "
                "moves away; use sgflux sample --offload-blocks, or keep the pipeline on one device"
            )
        model = self.pipeline.model
        assert model is not None, "it was made with an adapter"
        model.to(components.transformer.device)
        length = self.pipeline.text_encoders.max_sequence_length
        self.pipeline.text_encoders = _parts(components, length).text_encoders


def pipeline_of_components(
    components: Any,
    *,
    adapter: str | os.PathLike[str],
    allow_download: bool = False,
) -> ComponentsPipeline:
    """Put an adapter bundle onto a loaded diffusers ``FluxPipeline``.

    Its transformer is changed in place: it gets the adapter's LoRA. Of the base, only what
    :func:`~sgflux.models.adapter.check_base` looks at is compared with the adapter's.

    Args:
        components: Diffusers pipeline whose modules are used.
        adapter: Folder of a bundle, ``user/name[@revision]`` of one on the hub, or ``tiny``.
        allow_download: Fetch the bundle from the hub if it is not on this machine.

    Raises:
        SgfluxError: if the bundle cannot be loaded, or was trained on another base.
    """
    folder = find_bundle(adapter, allow_download=allow_download)
    drawing = read_drawing(folder)
    config, state = load_bundle(folder)
    parts = _parts(components, config.max_sequence_length)
    model = adapter_on(parts.transformer, config, state, text=parts.text_encoders)
    return ComponentsPipeline(
        SceneGraphFluxPipeline(
            **vars(parts),
            model=model.to(parts.transformer.device),
            model_id=str(getattr(components, "name_or_path", "") or ""),
            adapter_fingerprint=adapter_fingerprint(config, state),
            drawing=drawing,
        )
    )


def _parts(components: Any, max_sequence_length: int) -> Components:
    family = family_of_transformer(components.transformer)
    return family.of_pipeline(components, max_sequence_length=max_sequence_length)
