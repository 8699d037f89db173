"""An adapter on the components of a diffusers pipeline that somebody else has loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from sgflux.bases.flux1.load import Autoencoder
from sgflux.bases.flux1.text import TextEncoders
from sgflux.errors import SgfluxError
from sgflux.models.adapter import load_bundle
from sgflux.models.hub import find_bundle
from sgflux.sampling.inputs import adapter_fingerprint
from sgflux.sampling.loading import adapter_on
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
        text = components.text_encoder_2
        encoders = self.pipeline.text_encoders
        if encoders.device != text.device:
            self.pipeline.text_encoders = replace(encoders, device=text.device)


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
        adapter: Folder of a bundle, or ``user/name[@revision]`` of one on the hub.
        allow_download: Fetch the bundle from the hub if it is not on this machine.

    Raises:
        SgfluxError: if the bundle cannot be loaded, or was trained on another base.
    """
    config, state = load_bundle(find_bundle(adapter, allow_download=allow_download))
    text = TextEncoders(
        tokenizer=components.tokenizer,
        text_encoder=components.text_encoder,
        tokenizer_2=components.tokenizer_2,
        text_encoder_2=components.text_encoder_2,
        max_sequence_length=config.max_sequence_length,
        device=components.text_encoder_2.device,
        dtype=components.text_encoder_2.dtype,
    )
    transformer = components.transformer
    model = adapter_on(transformer, config, state, text=text).to(transformer.device)
    return ComponentsPipeline(
        SceneGraphFluxPipeline(
            text_encoders=text,
            autoencoder=Autoencoder(vae=components.vae),
            scheduler=components.scheduler,
            transformer=transformer,
            model=model,
            model_id=str(getattr(components, "name_or_path", "") or ""),
            adapter_fingerprint=adapter_fingerprint(config, state),
        )
    )
