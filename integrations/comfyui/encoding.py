"""An adapter's parts outside of the model: its bundle, and graphs through ComfyUI's own T5."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.flux1.text import TextEncoders
from sgflux.graphs.reading import read_graph
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import LORA_FILE, find_bundle
from sgflux.models.encoders import make_encoder
from sgflux.models.graph_encoder import NameFeatures

from .graph_blocks import Graph, GraphPart

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded adapter.

    Attributes:
        folder: Folder of the bundle.
        config: Description of the adapter.
        part: Modules that it adds to the model beside its LoRA.
        encoder: the graph encoder's weights, by their names in the encoder.
    """

    folder: Path
    config: AdapterConfig
    part: GraphPart
    encoder: dict[str, Tensor]

    @property
    def lora_file(self) -> Path:
        """The LoRA in diffusers' layout, which ComfyUI reads."""
        return self.folder / LORA_FILE


def load_adapter(adapter: str, *, allow_download: bool = False) -> Adapter:
    """Read a bundle.

    Args:
        adapter: Folder of the adapter (a run's ``final/``), or ``user/name[@revision]`` on the hub.
        allow_download: fetch it from the hub if it is not on this machine.

    Raises:
        SgfluxError: if it cannot be read.
    """
    folder = find_bundle(adapter, allow_download=allow_download)
    config, state = load_bundle(folder)
    if config.takes_layouts:
        _LOGGER.warning(
            "sgflux: the adapter was trained with boxes of objects, which these nodes neither "
            "predict nor take; it draws as with 'sgflux sample --boxes none'"
        )
    parts: dict[str, dict[str, Tensor]] = {"conditioner": {}, "encoder": {}}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind in parts:
            parts[kind][rest] = value
    part = GraphPart(
        mode=config.graph_mode,
        block_start=config.block_start,
        block_end=config.block_end,
        tokens_per_triple=config.tokens_per_triple,
        weights=parts["conditioner"],
    )
    return Adapter(folder=folder, config=config, part=part, encoder=parts["encoder"])


class ComfyT5:
    """ComfyUI's T5 (``comfy.text_encoders.t5.T5``), called as transformers' encoder is."""

    def __init__(self, model: Any) -> None:
        """Wrap a T5."""
        self._model = model

    def __call__(self, input_ids: Tensor) -> tuple[Tensor]:
        """Hidden states of tokens that all count, (B, L) -> (B, L, D)."""
        return (self._model(input_ids, None)[0],)

    def get_input_embeddings(self) -> Any:
        """The word embeddings."""
        return self._model.get_input_embeddings()


def encode_graph(adapter: Adapter, clip: Any, text: str, *, open_vocabulary: bool = False) -> Graph:
    """Encode a graph with ComfyUI's own text encoder.

    Args:
        adapter: whose graph encoder reads it.
        clip: ComfyUI's CLIP object of FLUX (CLIP-L and T5 XXL, loaded as type "flux").
        text: Text form of a graph, like ``man, riding, horse; man, wearing, hat``.
        open_vocabulary: take predicates that are not among the 24 and their aliases.

    Raises:
        SgfluxError: if the graph cannot be read.
        ValueError: if the text encoder is not FLUX's.
    """
    given = read_graph(text, open_vocabulary=open_vocabulary)
    if (remark := given.remark()) is not None:
        _LOGGER.warning("sgflux: %s", remark)
    stage, tokenizer = clip.cond_stage_model, getattr(clip.tokenizer, "t5xxl", None)
    if tokenizer is None or not hasattr(stage, "t5xxl"):
        raise ValueError("the graph's words are read by FLUX's T5: load CLIP-L and T5 as type flux")
    clip.load_model()
    t5 = stage.t5xxl.transformer
    weight = t5.get_input_embeddings().weight
    encoders = TextEncoders(
        tokenizer=None,
        text_encoder=None,
        tokenizer_2=tokenizer.tokenizer,
        text_encoder_2=ComfyT5(t5),
        max_sequence_length=adapter.config.max_sequence_length,
        device=weight.device,
        dtype=weight.dtype,
    )
    names = NameFeatures(weight.shape[1], encoders.encode_names)
    encoder = make_encoder(adapter.config.encoder, name_features=names)
    encoder.load_state_dict(adapter.encoder)
    with torch.no_grad():
        features = encoder.eval()([given.graph])
    return Graph(
        local=features.local, mask=features.mask, global_=features.global_, words=features.words
    )
