"""The same noise side by side: by the base, without a graph, with it, and with its roles swapped.

Nothing is written here. Each picture is drawn by itself, so that it has the bits of ``sgflux
sample --num-images 1`` with the same settings.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from PIL import Image

from sgflux.data.prompts import prompts_for_graph
from sgflux.errors import SgfluxError
from sgflux.graphs.negatives import roles_swapped
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, PredicateVocabulary
from sgflux.graphs.reading import read_graph
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.sampling.callbacks import StepCallback
from sgflux.sampling.inputs import GraphInput
from sgflux.sampling.names import check_graph_names
from sgflux.sampling.pipeline import SceneGraphFluxPipeline
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource

_SAFE = re.compile(r'[^"$`\\!]*')
"""Text that stands in double quotes on every command line."""


class Arm(StrEnum):
    """One way to draw a noise."""

    BASE = "base"
    """The base without the adapter."""
    NO_GRAPH = "no graph"
    """The adapter without a graph."""
    GRAPH = "graph"
    """The adapter with the graph."""
    SWAPPED = "roles swapped"
    """The adapter with subject and object of every asymmetric statement exchanged."""


@dataclass(frozen=True)
class ArmPicture:
    """One picture of a comparison.

    Attributes:
        arm: Way in which it was drawn.
        graph: Graph that the adapter was given; None: no graph.
        image: The picture.
        record: Description of how it was drawn, see :meth:`SceneGraphFluxPipeline.record`.
    """

    arm: Arm
    graph: SceneGraph | None
    image: Image.Image
    record: dict[str, Any]


def graph_of_arm(arm: Arm, graph: SceneGraph) -> SceneGraph | None:
    """Return the graph that the adapter is given in an arm; None: no graph.

    Raises:
        SgfluxError: if the roles of the graph cannot be swapped.
    """
    if arm in (Arm.BASE, Arm.NO_GRAPH):
        return None
    if arm is Arm.GRAPH:
        return graph
    swapped = roles_swapped(graph)
    if swapped is None:
        raise SgfluxError(
            "the roles cannot be swapped: the graph would state the same, because its statements "
            "are symmetric or objects of one name only change places"
        )
    return swapped


def arms_for(pipeline: SceneGraphFluxPipeline, graph: SceneGraph) -> tuple[Arm, ...]:
    """Return the arms that can be drawn: the base alone where there is no adapter.

    Nothing can be swapped in a graph that would then state the same.
    """
    if pipeline.model is None:
        return (Arm.BASE,)
    if graph.is_null:
        return (Arm.BASE, Arm.NO_GRAPH)
    swapped = () if roles_swapped(graph) is None else (Arm.SWAPPED,)
    return (Arm.BASE, Arm.NO_GRAPH, Arm.GRAPH, *swapped)


def draw_arms(
    pipeline: SceneGraphFluxPipeline,
    graph: GraphInput,
    prompt: str | None = None,
    *,
    seed: int,
    arms: Sequence[Arm] | None = None,
    num_inference_steps: int | None = None,
    graph_scale: float | None = None,
    stochastic_sampling: bool | None = None,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    open_vocabulary: bool = False,
    vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    callback_on_step_end: StepCallback | None = None,
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
) -> Iterator[ArmPicture]:
    """Draw one noise in several ways; each picture comes as soon as it is done.

    Args:
        pipeline: Pipeline of a base, with an adapter or without.
        graph: Graph in any form that the pipeline takes.
        prompt: Text of all pictures; None: the neutral text of the graph.
        seed: Seed of the noise.
        arms: Ways to draw it, in this order; None: all that :func:`arms_for` names.
        num_inference_steps, stochastic_sampling, guidance, height, width, open_vocabulary,
            vocabulary: Arguments of the pipeline.
        graph_scale: Strength of the graph, in the arms that have one.
        callback_on_step_end, callback_on_step_end_tensor_inputs: Callback of the pipeline, which is
            called for each arm in turn.

    Raises:
        SgfluxError: on a graph that cannot be read, an arm that cannot be drawn, or as the
            pipeline.
    """
    read = read_graph(
        SceneGraph.null() if graph is None else graph,
        vocabulary=vocabulary,
        open_vocabulary=open_vocabulary,
    ).graph
    check_graph_names(pipeline, [read])
    text = prompts_for_graph(read, "neutral") if prompt is None else prompt
    for arm in arms_for(pipeline, read) if arms is None else arms:
        own = graph_of_arm(arm, read)
        settings: dict[str, Any] = {
            "graph_scale": 1.0 if own is None else graph_scale,
            "stochastic_sampling": stochastic_sampling,
            "guidance": guidance,
            "height": height,
            "width": width,
            "use_adapter": arm is not Arm.BASE,
        }
        drawn = pipeline(
            own,
            text,
            num_inference_steps=num_inference_steps,
            seed=seed,
            open_vocabulary=True,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            **settings,
        )
        record = pipeline.record(
            graph=own, prompt=text, seed=seed, steps=num_inference_steps, **settings
        )
        yield ArmPicture(arm, own, drawn.images[0], record)


def sample_command(
    record: Mapping[str, Any],
    *,
    adapter: str | None,
    allow_other_base: bool = False,
    source: ModelSource | None = None,
    memory: MemorySettings | None = None,
) -> str:
    """Return the ``sgflux sample`` that draws a picture again.

    Args:
        record: Description of the picture, as its PNG has it.
        adapter: Folder or hub id of the pipeline's adapter; None: it has none.
        allow_other_base: Whether an adapter of another base was accepted.
        source: Place that the base was loaded from; None: the record's ``model`` says all of it.
        memory: Ways in which memory was saved.
    """
    words = ["sgflux", "sample", "--model-id", record["model"]]
    words += _flags(source, besides=("model_id",))
    if adapter is not None and record["use_adapter"]:
        words += ["--adapter", adapter, *(["--allow-other-base"] if allow_other_base else [])]
    elif adapter is not None:  # the base reads as many tokens as its adapter
        words += ["--max-sequence-length", str(record["text_tokens"])]
    if record["graph"] is not None:
        graph = SceneGraph.from_json(record["graph"])
        words += ["--graph", _written(graph)]
        if any(name not in DEFAULT_VOCABULARY for _, name, _ in graph.relationships):
            words.append("--open-vocabulary")
    words += ["--prompt", record["prompt"], "--steps", str(record["steps"])]
    words += ["--seed", str(record["seed"]), "--num-images", "1"]
    # The adapter may recommend something else than the defaults of these two.
    if record["graph"] is not None:
        words += ["--graph-scale", str(record["graph_scale"])]
    words += ["--stochastic-sampling", str(record.get("stochastic_sampling", False))]
    for name, default in {"guidance": None, "quantize": "none"}.items():
        if record[name] != default:
            words += [f"--{name}", str(record[name])]
    words += ["--height", str(record["height"]), "--width", str(record["width"])]
    words += ["--dtype", "fp32" if record["dtype"] == "float32" else "bf16"]
    words += _flags(memory, besides=("quantize",))
    return " ".join(map(_quoted, words))


def _flags(settings: Any, *, besides: Collection[str]) -> list[str]:
    """The flags of a group of settings that are not at their defaults; None has none."""
    words: list[str] = []
    for one in () if settings is None else fields(settings):
        value = getattr(settings, one.name)
        if one.name not in besides and value != one.default:
            flag = f"--{one.name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return words


def _written(graph: SceneGraph) -> str:
    try:
        return graph.to_text()
    except SceneGraphError:
        return json.dumps(graph.to_json(), ensure_ascii=False)


def _quoted(word: str) -> str:
    plain = shlex.quote(word)
    return f'"{word}"' if plain != word and _SAFE.fullmatch(word) else plain
