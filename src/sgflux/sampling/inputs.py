"""Inputs of a call of the pipeline: graphs and prompts, settings, seeds and noise."""

from __future__ import annotations

import math
import operator
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.reading import read_graph
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.settings.model import expect_seeds

GraphInput = SceneGraph | str | Mapping[str, Any] | None
"""A graph, its text form, its JSON (as text or parsed), or none."""


def check_settings(
    *, has_adapter: bool, has_graph: bool, steps: int, graph_scale: float, use_adapter: bool
) -> None:
    """Refuse settings that contradict each other, or would have no effect.

    Raises:
        SgfluxError: naming the setting.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise SgfluxError(f"the number of steps must be a whole number, got {steps!r}")
    if not math.isfinite(graph_scale):
        raise SgfluxError(f"graph_scale must be a finite number, got {graph_scale}")
    if steps < 1:
        raise SgfluxError(f"the number of steps must be at least 1, got {steps}")
    if use_adapter and not has_adapter:
        raise SgfluxError("use_adapter is true, but no adapter was loaded")
    if has_graph and not use_adapter:
        raise SgfluxError("a graph has no effect without the adapter; leave it out")
    if graph_scale != 1 and not has_graph:
        raise SgfluxError(f"graph_scale ({graph_scale}) has no effect without a graph")


def paired_inputs(
    graph: GraphInput | Sequence[GraphInput],
    prompt: str | Sequence[str] | None,
    *,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    open_vocabulary: bool = False,
) -> tuple[list[SceneGraph | None], tuple[str, ...]]:
    """Return one graph and one prompt for every picture; without prompts, the neutral texts.

    Raises:
        SgfluxError: if a graph cannot be read or has a predicate that is not known, if there is
            nothing to draw, or the numbers do not go together.
    """
    single = graph is None or isinstance(graph, SceneGraph | str | Mapping)
    if not single and not isinstance(graph, Sequence):
        raise SgfluxError(
            "graph must be a SceneGraph, its text form, its JSON, None, or a list of these, "
            f"got {type(graph).__name__}"
        )
    given: list[Any] = [graph] if single else list(graph)  # type: ignore[arg-type]
    graphs: list[SceneGraph | None] = []
    for one in given:
        # With any word allowed there is nothing to check about a graph that was read before.
        if one is None or (isinstance(one, SceneGraph) and open_vocabulary):
            graphs.append(one)
        else:
            read = read_graph(one, vocabulary=vocabulary, open_vocabulary=open_vocabulary)
            graphs.append(read.graph)
    if prompt is None:
        for number, one in enumerate(graphs):
            if one is None or not one.objects:
                raise SgfluxError(f"picture {number} has neither a graph nor a prompt")
        prompts = [prompts_for_graph(one, "neutral") for one in graphs if one is not None]
    else:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not graphs or not prompts:
        raise SgfluxError("there is no graph and no prompt: nothing to draw")
    count = max(len(graphs), len(prompts))
    if len(graphs) not in (1, count) or len(prompts) not in (1, count):
        raise SgfluxError(f"{len(graphs)} graphs and {len(prompts)} prompts do not go together")
    graphs *= count // len(graphs)
    prompts *= count // len(prompts)
    return graphs, tuple(prompts)


def seeds_of(seed: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    """One seed for every picture: consecutive ones from a single one, fresh ones for None.

    Raises:
        SgfluxError: if several are given, but not ``count``; if one is no whole number or none that
            torch takes.
    """
    if seed is None:
        return tuple(secrets.randbits(32) for _ in range(count))
    # NumPy's integers, too; an array without axes is a single seed.
    several = isinstance(seed, Iterable) and np.ndim(seed) > 0  # type: ignore[arg-type]
    try:
        seeds = [operator.index(one) for one in (seed if several else [seed])]  # type: ignore
    except TypeError:
        raise SgfluxError(f"seeds must be whole numbers, got {seed!r}") from None
    if not several:
        expect_seeds(seeds[0], count)
        return tuple(range(seeds[0], seeds[0] + count))
    if len(seeds) != count:
        raise SgfluxError(f"{len(seeds)} seeds for {count} pictures")
    for one in seeds:
        expect_seeds(one, 1)
    return tuple(seeds)


@dataclass(frozen=True, eq=False)
class Randomness:
    """Sources of everything random in a call.

    Attributes:
        generator: Generator of the noise, one for all pictures or one for each.
        seeds: Seed of each picture's noise; None if the caller's generator draws it.
        of_boxes: Seed of each picture's predicted boxes.
    """

    generator: torch.Generator | Sequence[torch.Generator]
    seeds: tuple[int, ...] | None
    of_boxes: tuple[int, ...]


def randomness_of(
    generator: torch.Generator | Sequence[torch.Generator] | None,
    seed: int | Sequence[int] | None,
    count: int,
) -> Randomness:
    """Return the sources for ``count`` pictures, given a generator, a seed or neither.

    Raises:
        SgfluxError: if both are given, or as :func:`seeds_of`.
    """
    if generator is None:
        seeds = seeds_of(seed, count)
        own = [torch.Generator("cpu").manual_seed(number) for number in seeds]
        return Randomness(own, seeds, seeds)
    if seed is not None:
        raise SgfluxError("give a generator or a seed, not both")
    if isinstance(generator, torch.Generator):
        first = generator.initial_seed()
        return Randomness(generator, None, tuple(range(first, first + count)))
    return Randomness(generator, None, tuple(one.initial_seed() for one in generator))


def standard_noise(
    shape: tuple[int, int, int, int],
    generator: torch.Generator | Sequence[torch.Generator],
    device: torch.device,
) -> Tensor:
    """Standard normal latents, (B, c, h, w) float32 on ``device``, drawn as diffusers does it.

    Drawn in float32 whatever the model's precision is, so that a seed means one noise.

    Raises:
        SgfluxError: if there are several generators, but not one for each picture.
    """
    generators = generator if isinstance(generator, torch.Generator) else list(generator)
    if isinstance(generators, list) and len(generators) != shape[0]:
        raise SgfluxError(f"{len(generators)} generators for {shape[0]} pictures")
    return randn_tensor(shape, generator=generators, device=device, dtype=torch.float32)
