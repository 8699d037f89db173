"""An adapter's parts outside of the model: its bundle, and graphs through ComfyUI's own T5."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sgflux.bases.flux1.text import TextEncoders
from sgflux.data.boxes import Layout
from sgflux.data.given_boxes import NamedBoxes, layout_by_name, read_boxes
from sgflux.errors import SgfluxError
from sgflux.graphs.reading import read_graph
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter_config import AdapterConfig
from sgflux.models.bundle import load_bundle
from sgflux.models.bundle_folder import CONFIG_FILE, LORA_FILE, find_bundle
from sgflux.models.encoders import make_encoder
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.name_features import NameFeatures
from sgflux.sampling.loading import adapter_fingerprint

from .graph_blocks import GraphPart

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A loaded adapter.

    Attributes:
        folder: Folder of the bundle.
        config: Description of the adapter.
        part: Modules that it adds to the model beside its LoRA.
        encoder: the graph encoder's weights, by their names in the encoder.
        lora: LoRA in diffusers' layout, which ComfyUI reads.
        digest: SHA-256 of description and weights, in hex.
    """

    folder: Path
    config: AdapterConfig
    part: GraphPart
    encoder: dict[str, Tensor]
    lora: dict[str, Tensor]
    digest: str


@dataclass(frozen=True, eq=False)
class EncodedGraph:
    """A graph as an adapter's encoder has it.

    Attributes:
        features: Features of batch size 1.
        adapter: Digest of that adapter.
    """

    features: GraphFeatures
    adapter: str


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
    parts: dict[str, dict[str, Tensor]] = {"conditioner": {}, "encoder": {}}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind in parts:
            parts[kind][rest] = value
    sizes = make_encoder(config.encoder, name_features=NameFeatures(config.text_dim))
    conditioner = config.conditioner(sizes).requires_grad_(False)
    conditioner.load_state_dict(parts["conditioner"])
    part = GraphPart(conditioner=conditioner, block_start=config.block_start)
    return Adapter(
        folder=folder,
        config=config,
        part=part,
        encoder=parts["encoder"],
        lora=load_file(folder / LORA_FILE),
        digest=adapter_fingerprint(config, state),
    )


def state_of(adapter: str) -> str:
    """What changes when an adapter's folder is written anew: the time of its description.

    Args:
        adapter: Folder or hub id, as for :func:`load_adapter`; nothing is fetched.
    """
    try:
        return str((find_bundle(adapter, allow_download=False) / CONFIG_FILE).stat().st_mtime_ns)
    except (SgfluxError, OSError):
        return ""  # loading it says what is wrong


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


def encode_graph(
    adapter: Adapter,
    clip: Any,
    text: str,
    *,
    open_vocabulary: bool = False,
    boxes: str = "predicted",
    seed: int = 0,
) -> EncodedGraph:
    """Encode a graph with ComfyUI's own text encoder.

    Args:
        adapter: whose graph encoder reads it.
        clip: ComfyUI's CLIP object of FLUX (CLIP-L and T5 XXL, loaded as type "flux").
        text: Text form of a graph, like ``man, riding, horse; man, wearing, hat``.
        open_vocabulary: take predicates that are not among the 24 and their aliases.
        boxes: boxes of the objects, as for ``sgflux sample --boxes``; ``predicted`` are none
            without a predictor.
        seed: decides the predicted boxes, as the seed of a picture does in sgflux.

    Raises:
        SgfluxError: if the graph or the boxes cannot be read, or boxes have no effect.
        ValueError: if the text encoder is not FLUX's.
    """
    if boxes != "predicted" and not adapter.config.takes_layouts:
        raise SgfluxError(
            "the adapter reads no boxes, so that they have no effect; leave boxes at 'predicted'"
        )
    places = read_boxes(boxes)
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
        layout = _layout(adapter, encoder.eval(), given.graph, places, seed)
        features = encoder([given.graph], None if layout is None else [layout])
    return EncodedGraph(features, adapter.digest)


def _layout(
    adapter: Adapter, encoder: Any, graph: SceneGraph, boxes: str | NamedBoxes, seed: int
) -> Layout | None:
    """The boxes of a graph's objects, as ``sgflux.sampling.boxes.layouts_for`` decides on them."""
    if not isinstance(boxes, str):
        return layout_by_name(graph, boxes)
    predicts = adapter.config.takes_layouts and encoder.layout is not None
    if boxes == "none" or not predicts or graph.is_null:
        return None
    (layout,) = encoder.layout.sample(encoder.batch([graph], encoder.pool.weight.device), [seed])
    return layout
