"""FLUX.1 as a family: the one object that :data:`sgflux.bases.families.FAMILIES` names."""

from __future__ import annotations

from typing import Any

from diffusers import FluxTransformer2DModel

from sgflux.bases.base import Components
from sgflux.bases.flux1 import load
from sgflux.bases.flux1.check import check_model
from sgflux.bases.flux1.facts import encoder_facts, encoder_identity, picture_size
from sgflux.bases.flux1.files import identify_base
from sgflux.bases.flux1.lora_formats import (
    hub_id,
    lora_header,
    lora_layers,
    read_lora,
    write_lora,
)
from sgflux.bases.flux1.network import FluxNetwork
from sgflux.bases.flux1.outline import outline
from sgflux.bases.flux1.schedule import FluxScheduler
from sgflux.bases.flux1.text import TextEncoders
from sgflux.settings.model_source import ModelSource


class Flux1:
    """See :class:`~sgflux.bases.base.Family`."""

    transformer = FluxTransformer2DModel
    pipelines = ("FluxPipeline",)
    network = FluxNetwork
    describe = staticmethod(load.model_identity)

    check = staticmethod(check_model)
    facts = staticmethod(encoder_facts)
    picture_size = staticmethod(picture_size)
    encoder_identity = staticmethod(encoder_identity)
    identity = staticmethod(identify_base)
    outline = staticmethod(outline)

    lora_layers = staticmethod(lora_layers)
    lora_header = staticmethod(lora_header)
    read_lora = staticmethod(read_lora)
    write_lora = staticmethod(write_lora)
    hub_id = staticmethod(hub_id)

    def load_text_encoders(self, source: ModelSource, **options: Any) -> TextEncoders:
        """See :func:`~.load.load_text_encoders`."""
        return load.load_text_encoders(**source.for_text_encoders, **options)

    def load_autoencoder(self, source: ModelSource, **options: Any) -> load.Autoencoder:
        """See :func:`~.load.load_autoencoder`."""
        return load.load_autoencoder(**source.for_autoencoder, **options)

    def load_transformer(self, source: ModelSource, **options: Any) -> FluxTransformer2DModel:
        """See :func:`~.load.load_transformer`."""
        return load.load_transformer(**source.for_transformer, **options)

    def load_scheduler(self, source: ModelSource) -> FluxScheduler:
        """See :func:`~.load.load_scheduler`."""
        return FluxScheduler(load.load_scheduler(**source.for_scheduler))

    def of_pipeline(self, pipeline: Any, *, max_sequence_length: int) -> Components:
        """See :class:`~sgflux.bases.base.Loading`; the pipeline is a ``FluxPipeline``."""
        text = TextEncoders(
            tokenizer=pipeline.tokenizer,
            text_encoder=pipeline.text_encoder,
            tokenizer_2=pipeline.tokenizer_2,
            text_encoder_2=pipeline.text_encoder_2,
            max_sequence_length=max_sequence_length,
            device=pipeline.text_encoder_2.device,
            dtype=pipeline.text_encoder_2.dtype,
        )
        return Components(
            text_encoders=text,
            autoencoder=load.Autoencoder(vae=pipeline.vae),
            scheduler=FluxScheduler(pipeline.scheduler),
            transformer=pipeline.transformer,
        )
