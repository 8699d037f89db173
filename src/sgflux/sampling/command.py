"""``sgflux sample``: pictures of graphs given on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgflux.data.examples import prompts_for_graph
from sgflux.data.pictures import contact_sheet, save_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, UnknownPredicateError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling.inputs import loading_settings, resolve_device, resolve_dtype
from sgflux.sampling.pipeline import SceneGraphFluxPipeline
from sgflux.settings.sampling import SampleConfig


@dataclass(frozen=True)
class _Row:
    """What one row of the contact sheet shows."""

    caption: str
    graph: SceneGraph | None
    prompt: str
    use_adapter: bool


def sample(config: SampleConfig) -> list[Path]:
    """Draw what the config asks for: one PNG a picture and ``contact_sheet.png``.

    Returns:
        The pictures' paths, then the sheet's.

    Raises:
        SgfluxError: on a bad graph, model or adapter.
    """
    rows = _rows(config)
    device = resolve_device(config.device)
    pipeline = SceneGraphFluxPipeline.from_pretrained(
        config.model_id,
        adapter=config.adapter,
        dtype=resolve_dtype(config.dtype, device),
        device=device,
        **loading_settings(config),
    )
    settings: dict[str, Any] = {
        "steps": config.steps,
        "guidance": config.guidance,
        "height": config.height,
        "width": config.width,
    }
    seeds = range(config.seed, config.seed + config.num_images)
    pictures: list[np.ndarray] = []
    captions, paths = [], []
    for number, row in enumerate(rows):
        own = {
            **settings,
            "use_adapter": row.use_adapter,
            "graph_scale": 1.0 if row.graph is None else config.graph_scale,
        }
        for start in range(0, len(seeds), config.batch_size):
            batch = seeds[start : start + config.batch_size]
            count = len(batch)
            drawn = pipeline.sample_batch([row.graph] * count, [row.prompt] * count, batch, **own)
            for picture, seed in zip(drawn, batch, strict=True):
                path = config.out_dir / f"{number:03d}-seed{seed}.png"
                info = pipeline.record(graph=row.graph, prompt=row.prompt, seed=seed, **own)
                save_picture(path, picture, info)
                pictures.append(picture)
                captions.append(f"{row.caption}\nseed {seed}")
                paths.append(path)
    sheet = config.out_dir / "contact_sheet.png"
    rows_said = [{"row": row.caption, "prompt": row.prompt} for row in rows]
    save_picture(
        sheet, contact_sheet(pictures, captions, columns=config.num_images), {"rows": rows_said}
    )
    return [*paths, sheet]


def _rows(config: SampleConfig) -> list[_Row]:
    if not config.graph:
        prompt = config.prompt or ""
        return [_Row(prompt, None, prompt, config.adapter is not None)]
    rows = []
    for text in config.graph:
        graph = read_graph(text, open_vocabulary=config.open_vocabulary)
        prompt = prompts_for_graph(graph, "neutral") if config.prompt is None else config.prompt
        rows.append(_Row(text, graph, prompt, True))
        if config.compare:
            rows.append(_Row(f"without graph: {prompt}", None, prompt, True))
            rows.append(_Row(f"base: {prompt}", None, prompt, False))
    return rows


def read_graph(text: str, *, open_vocabulary: bool) -> SceneGraph:
    """The graph of a text, with its predicates' canonical names."""
    graph = SceneGraph.parse(text)
    if graph.is_null:
        raise SgfluxError(f'graph {text!r} states no relation; write one like "man, riding, horse"')
    words = DEFAULT_VOCABULARY.normalize if open_vocabulary else DEFAULT_VOCABULARY.canonical
    try:
        relationships = tuple((s, words(p), o) for s, p, o in graph.relationships)
    except UnknownPredicateError as error:
        raise SgfluxError(f"graph {text!r}: {error} (open_vocabulary takes any word)") from error
    return SceneGraph(objects=graph.objects, relationships=relationships)
