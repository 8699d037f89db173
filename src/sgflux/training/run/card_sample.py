"""The picture that goes with a finished adapter, drawn by the code that ``sgflux sample`` runs.

The encoders are loaded a second time for it, on the CPU unless they have a device of their own: the
training's device may be full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgflux.bases.families import family_of
from sgflux.data.buckets import Size
from sgflux.data.pictures import picture_bytes
from sgflux.data.prompts import prompts_for_graph
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.training.build import Preparation
from sgflux.training.encoding.splits import Splits
from sgflux.training.samples.sampler import trained_pipeline

WITH_GRAPH, WITHOUT_GRAPH = "sample.png", "sample_without_graph.png"


@dataclass(frozen=True)
class CardSample:
    """The picture of a model card, and how it was made.

    Attributes:
        statement: Graph, in words.
        prompt: Text, which leaves the relation open.
        seed: Seed of the noise.
        steps: Euler steps.
        pictures: File name -> PNG, which says how it was made.
    """

    statement: str
    prompt: str
    seed: int
    steps: int
    pictures: Mapping[str, bytes]


def draw_sample(
    splits: Splits,
    prepared: Preparation,
    weights: Mapping[str, Tensor],
    *,
    source: ModelSource,
    memory: MemorySettings,
    size: Size,
    steps: int,
    seed: int,
) -> CardSample:
    """Draw the first validation example's graph, or else the first training example's.

    The same noise is drawn with the graph and without; a training adapter is off.

    Args:
        splits: Data of the run.
        prepared: Model of the run, which takes over the weights.
        weights: Weights of the finished adapter.
        source: Base model.
        memory: Device of the encoders, and rounding of the base.
        size: Height and width in pixels.
        steps: Number of Euler steps.
        seed: Random seed of the noise.

    Raises:
        SgfluxError: if an encoder cannot be loaded.
    """
    model, family = prepared.model, family_of(source)
    model.load_trainable_state(weights)
    graph = splits.items[0].graph if splits.items else splits.train[0].graph
    prompt = prompts_for_graph(graph, "neutral")
    aside: dict[str, Any] = {"dtype": prepared.dtype, "device": memory.encoder_device or "cpu"}
    pipeline = trained_pipeline(
        model,
        text_encoders=family.load_text_encoders(
            source, max_sequence_length=prepared.adapter.max_sequence_length, **aside
        ),
        autoencoder=family.load_autoencoder(source, **aside),
        scheduler=family.load_scheduler(source),
        model_id=source.name,
        quantize=memory.quantize,
    )
    settings: dict[str, Any] = {"steps": steps, "height": size[0], "width": size[1]}
    pictures = {}
    with prepared.as_sampled(), torch.no_grad():
        for name, own in ((WITH_GRAPH, graph), (WITHOUT_GRAPH, None)):
            (drawn,) = pipeline.sample_batch([own], [prompt], [seed], **settings)
            info = pipeline.record(graph=own, prompt=prompt, seed=seed, **settings)
            pictures[name] = picture_bytes(drawn, info)
    return CardSample(
        statement="; ".join(map(str, graph.triples())),
        prompt=prompt,
        seed=seed,
        steps=steps,
        pictures=pictures,
    )
