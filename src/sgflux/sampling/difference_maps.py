"""Where a picture depends on a word: difference maps.

The model sees one noised picture twice, told of an object or a statement and not told of it. The
map is how far its velocities are apart in each part of the picture.

Source: Couairon et al. 2022, arXiv:2210.11427 (DiffEdit), Sec. 3.2, where the differences of noise
estimates under two texts make a mask.

Shapes: T statements, h by w latent pixels; S image tokens of c' numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sgflux.data.prompts import in_prose, prompts_for_graph
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling.integration import acting, base_velocity
from sgflux.sampling.noised import expect_reader, noised
from sgflux.sampling.pipeline import SceneGraphFluxPipeline

_BATCH = 4
"""Number of forward passes at once: a graph of several statements takes many."""


@dataclass(frozen=True)
class Told:
    """What a model is told: a text and a graph, where None is no graph."""

    prompt: str
    graph: SceneGraph | None


@torch.no_grad()
def difference_maps(
    pipeline: SceneGraphFluxPipeline,
    pixels: Tensor,
    graph: SceneGraph,
    *,
    prompt: str | None,
    use_graph: bool,
    sigma: float,
    seed: int,
    guidance: float | None = None,
    use_adapter: bool = True,
) -> Tensor:
    """Return how much each part of a picture depends on subject, predicate and object.

    A word is left out of the graph and of the text. Where neither names it, it is added to the text
    instead, so that its map is never of nothing.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        pixels: Picture (3, H, W) in [-1, 1], of a size that the model takes.
        graph: Graph of T statements.
        prompt: Text that the model is given; None: the neutral text of the graph.
        use_graph: Whether the adapter is given the graph.
        sigma: Noise level in [0, 1].
        seed: Seed of the noise.
        guidance: Guidance scale, for a guidance-distilled model only.
        use_adapter: Whether the adapter acts on the base; without it, there is no graph either.

    Returns:
        (T, 3, h/2, w/2) float32 on the CPU, >= 0: root mean square difference of the velocities, in
        standard deviations of the latents.

    Raises:
        SgfluxError: if a graph is given and no adapter acts that reads it.
    """
    if use_graph:
        expect_reader(pipeline, use_adapter=use_adapter)
    if prompt == prompts_for_graph(graph, "neutral"):
        prompt = None
    pairs = [
        pair
        for index in range(len(graph.relationships))
        for pair in _pairs_of(graph, index, prompt, use_graph=use_graph)
    ]
    told = list(dict.fromkeys(one for pair in pairs for one in pair))
    noisy, level = noised(pipeline, pixels[None], sigma=sigma, seed=seed)
    with acting(pipeline.network, pipeline.model, use_adapter=use_adapter):
        velocities = torch.cat(
            [
                _velocities(
                    pipeline,
                    noisy,
                    told[start : start + _BATCH],
                    level,
                    guidance,
                    use_adapter=use_adapter,
                )
                for start in range(0, len(told), _BATCH)
            ]
        )
    less, whole = (velocities[[told.index(pair[side]) for pair in pairs]] for side in (0, 1))
    maps = (whole - less).square().mean(dim=2).sqrt()
    return maps.unflatten(0, (-1, 3)).unflatten(2, pipeline.network.grid(noisy)).cpu()


def _velocities(
    pipeline: SceneGraphFluxPipeline,
    noisy: Tensor,
    told: Sequence[Told],
    level: Tensor,
    guidance: float | None,
    *,
    use_adapter: bool,
) -> Tensor:
    """Velocities (N, S, c') float32 of one noised picture, by what the model is told."""
    count, network, model = len(told), pipeline.network, pipeline.model
    inputs = network.inputs(
        noisy.expand(count, -1, -1, -1),
        pipeline.encode_text([one.prompt for one in told]),
        level.expand(count),
        guidance=pipeline.guidance_scale(guidance),
    )
    if model is None or not use_adapter:
        return base_velocity(network, model, inputs).float()
    graphs = [one.graph for one in told]
    features = None
    if any(graph is not None for graph in graphs):
        features = model.encoder([graph or SceneGraph.null() for graph in graphs])
    return model.flux.suffix(model.flux.prefix(inputs), features).float()


def _pairs_of(
    graph: SceneGraph, index: int, prompt: str | None, *, use_graph: bool
) -> list[tuple[Told, Told]]:
    """What the model is told without and with subject, predicate and object of a statement."""
    subject, predicate, object_ = graph.relationships[index]
    names = graph.objects[subject], graph.objects[object_]
    text = prompts_for_graph(graph, "neutral") if prompt is None else prompt
    rest = tuple(own for number, own in enumerate(graph.relationships) if number != index)
    statement = f"{names[0]} {in_prose(predicate)} {names[1]}"
    parts = (
        (names[0], without_object(graph, subject)),
        (statement, SceneGraph(objects=graph.objects, relationships=rest)),
        (names[1], without_object(graph, object_)),
    )
    pairs = []
    for word, less in parts:
        if word == statement:
            left = _replaced(text, statement, " and ".join(names))
        elif prompt is None:
            left = prompts_for_graph(less, "neutral")
        elif word.casefold() in (name.casefold() for name in less.objects):
            left = text  # which names another object of that name
        else:
            left = text_without(text, word)
        if use_graph:
            pairs.append((Told(left, less), Told(text, graph)))
        elif left == text:
            pairs.append((Told(text, None), Told(f"{text}, {word}" if text else word, None)))
        else:
            pairs.append((Told(left, None), Told(text, None)))
    return pairs


def without_object(graph: SceneGraph, index: int) -> SceneGraph:
    """Return a graph without one of its objects and without the statements about it."""
    places = [place for place in range(len(graph.objects)) if place != index]
    return SceneGraph(
        objects=tuple(graph.objects[place] for place in places),
        relationships=tuple(
            (places.index(subject), predicate, places.index(object_))
            for subject, predicate, object_ in graph.relationships
            if index not in (subject, object_)
        ),
    )


def text_without(text: str, name: str) -> str:
    """Return a text without a name, and without the "and" that joins it to others."""
    found = _replaced(text, f"and {name}", "")
    found = _replaced(found, f"{name} and", "") if found == text else found
    found = _replaced(found, name, "") if found == text else found
    return " ".join(found.split())


def _replaced(text: str, words: str, by: str) -> str:
    pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
    return re.sub(pattern, lambda _: by, text, flags=re.IGNORECASE)  # by may have a backslash
