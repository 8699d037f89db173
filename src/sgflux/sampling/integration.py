"""From noise to latents: the steps of a drawing, with an adapter in the base or without.

Shapes: B pictures, latents (B, c, h, w).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor

from sgflux.bases.base import Network, Text
from sgflux.bases.family import Schedule
from sgflux.data.boxes import Layout
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.adapter import GraphLoraModel, adapter_disabled
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.sampling.callbacks import AfterStep


@contextlib.contextmanager
def mixed_precision(network: Network, model: GraphLoraModel | None) -> Iterator[None]:
    """Autocast to the base's precision if an adapter in float32 acts on it, as in training.

    Args:
        network: Network of the base.
        model: Transformer of the base with the adapter on it; None: no adapter.
    """
    if model is None or network.dtype == torch.float32:
        yield
        return
    # peft would make a LoRA's input float32, only for autocast to round it back.
    with (
        disable_input_dtype_casting(model.flux.transformer),
        torch.autocast(network.device.type, dtype=network.dtype),
    ):
        yield


@contextlib.contextmanager
def acting(network: Network, model: GraphLoraModel | None, *, use_adapter: bool) -> Iterator[None]:
    """Let the adapter act as in training, or not at all, while the context is open.

    Args:
        network: Network of the base.
        model: Transformer of the base with the adapter on it; None: no adapter.
        use_adapter: Whether the adapter acts.
    """
    if model is None:
        yield
    elif use_adapter:
        with mixed_precision(network, model):
            yield
    else:
        with adapter_disabled(model):
            yield


def base_velocity(network: Network, model: GraphLoraModel | None, inputs: Any) -> Tensor:
    """The base's own velocity (B, S, c), with the bits that diffusers computes.

    Args:
        network: Network of the base.
        model: Transformer of the base with an adapter on it, which does not act; None: no adapter.
        inputs: Inputs of the network.
    """
    if model is None:
        return network.plain(inputs)
    # Not network.plain: the blocks' weights may be offloaded, and this fetches them.
    return model.flux.suffix(model.flux.prefix(network.rounded(inputs)))


def integrate(
    latents: Tensor,
    *,
    network: Network,
    model: GraphLoraModel | None,
    use_adapter: bool,
    schedule: Schedule,
    text: Text,
    guidance: float | None,
    graphs: Sequence[SceneGraph | None],
    layouts: Sequence[Layout | None],
    graph_scale: float,
    new_noise: Callable[[], Tensor] | None = None,
    after_step: AfterStep | None = None,
) -> Tensor:
    """Take the steps from noise to pictures.

    Args:
        latents: Noise (B, c, h, w) in the precision of the network.
        network: Network of the base.
        model: Transformer of the base with the adapter on it; None: no adapter.
        use_adapter: Whether the adapter acts on the base.
        schedule: Noise levels.
        text: Features of the B prompts.
        guidance: Guidance scale that the network is told; None for one that takes none.
        graphs: B graphs, where None is no graph.
        layouts: Boxes of each graph's objects, where None leaves them open.
        graph_scale: Extrapolation from the velocity without a graph towards the one with it.
        new_noise: Function that draws the noise of a step, (B, c, h, w) float32; None: Euler steps,
            in which no noise is drawn.
        after_step: Function that is called after each step.

    Returns:
        Latents of the pictures, (B, c, h, w), in the precision of the noise.
    """
    with contextlib.ExitStack() as settings:
        # Features for the forward passes of a step: with a graph scale also those of no graph.
        features: list[GraphFeatures | None] = [None]
        if model is not None and any(graph is not None and not graph.is_null for graph in graphs):
            # Not in inference mode: the encoder keeps the features of names for others, too.
            with torch.no_grad():
                encoded = model.features([graph or SceneGraph.null() for graph in graphs], layouts)
            features = [encoded] if graph_scale == 1 else [encoded, None]
        settings.enter_context(torch.inference_mode())
        settings.enter_context(acting(network, model, use_adapter=use_adapter))
        for number, sigma in enumerate(schedule.sigmas):
            inputs = network.inputs(latents, text, sigma.expand(len(latents)), guidance=guidance)
            if model is None or not use_adapter:
                velocity, *without = [base_velocity(network, model, inputs)]
            else:  # the blocks before the first adapted one run once
                prefix = model.flux.prefix(inputs)
                velocity, *without = [model.flux.suffix(prefix, graph) for graph in features]
            if without:
                velocity = without[0] + graph_scale * (velocity - without[0])
            velocity = network.unpack(velocity.to(latents.dtype), *latents.shape[2:])
            noise = None if new_noise is None else new_noise()
            before, latents = latents, schedule.step(number, latents, velocity, noise)
            if after_step is not None:
                latents = after_step(number, sigma, before - sigma * velocity, latents)
    return latents
