"""FLUX.1 as a family: the one object that :data:`sgflux.bases.families.FAMILIES` names."""

from __future__ import annotations

from diffusers import FluxTransformer2DModel

from sgflux.bases.flux1 import load
from sgflux.bases.flux1.check import check_model
from sgflux.bases.flux1.facts import encoder_facts, encoder_identity, picture_size
from sgflux.bases.flux1.files import identify_base
from sgflux.bases.flux1.lora_formats import (
    hub_id,
    lora_header,
    lora_layers,
    read_lora,
    tokens_of,
    write_lora,
)
from sgflux.bases.flux1.network import FluxNetwork
from sgflux.bases.flux1.outline import outline


class Flux1:
    """See :class:`~sgflux.bases.family.Family`."""

    transformer = FluxTransformer2DModel
    pipelines = ("FluxPipeline",)
    published = "pipeline.py"
    network = FluxNetwork
    describe = staticmethod(load.model_identity)

    check = staticmethod(check_model)
    facts = staticmethod(encoder_facts)
    picture_size = staticmethod(picture_size)
    encoder_identity = staticmethod(encoder_identity)
    identity = staticmethod(identify_base)
    outline = staticmethod(outline)

    lora_layers = staticmethod(lora_layers)
    tokens_of = staticmethod(tokens_of)
    lora_header = staticmethod(lora_header)
    read_lora = staticmethod(read_lora)
    write_lora = staticmethod(write_lora)
    hub_id = staticmethod(hub_id)

    load_text_encoders = staticmethod(load.load_text_encoders)
    load_autoencoder = staticmethod(load.load_autoencoder)
    load_transformer = staticmethod(load.load_transformer)
    load_scheduler = staticmethod(load.load_scheduler)
    of_pipeline = staticmethod(load.of_pipeline)
