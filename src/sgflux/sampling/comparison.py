"""``sgflux sample``: pictures of graphs given on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from sgflux.data.given_boxes import read_boxes
from sgflux.data.pictures import contact_sheet, save_picture, tile
from sgflux.data.prompts import prompts_for_graph
from sgflux.graphs.scene_graph import SceneGraph, SceneGraphError
from sgflux.sampling.companions import ALONE, Companions
from sgflux.sampling.given import given_graphs
from sgflux.sampling.names import check_graph_names
from sgflux.sampling.pipeline import SceneGraphFluxPipeline
from sgflux.settings.sampling import SampleConfig


@dataclass(frozen=True)
class _Row:
    """Content of one row of the contact sheet."""

    caption: str
    graph: SceneGraph | None
    prompt: str
    use_adapter: bool


def sample(
    config: SampleConfig, *, companions: Companions = ALONE, say: Callable[[str], None] = print
) -> list[Path]:
    """Draw what the config asks for: one PNG a picture and ``contact_sheet.png``.

    Args:
        config: Settings of the pictures to draw.
        companions: Processes that share the drawing; the first one makes the sheet.
        say: Function that shows a line to the user.

    Returns:
        The pictures' paths, then the sheet's, in every process.

    Raises:
        SgfluxError: on a bad graph, model or adapter.
    """
    rows = _rows(config, say=say)
    pipeline = SceneGraphFluxPipeline.from_settings(
        config.model,
        config.trained,
        config.compute,
        config.memory,
        max_sequence_length=config.max_sequence_length,
    )
    check_graph_names(pipeline, [row.graph for row in rows if row.graph is not None])
    boxes = None if config.boxes is None else read_boxes(config.boxes)
    settings: dict[str, Any] = {
        "steps": config.drawing.steps,
        "stochastic_sampling": config.drawing.stochastic_sampling,
        "guidance": config.size.guidance,
        "height": config.size.height,
        "width": config.size.width,
    }
    seeds = range(config.seed, config.seed + config.num_images)
    size = config.drawing.batch_size
    chunks = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    batches = list(product(range(len(rows)), chunks))
    found: list[tuple[int, int, Image.Image, Path]] = []
    for number, batch in batches[companions.index :: companions.count]:
        row, count = rows[number], len(batch)
        own = {
            **settings,
            "use_adapter": row.use_adapter,
            "graph_scale": 1.0 if row.graph is None else config.drawing.graph_scale,
            "boxes": None if row.graph is None else boxes,
        }
        drawn = pipeline.sample_batch([row.graph] * count, [row.prompt] * count, batch, **own)
        for picture, seed in zip(drawn, batch, strict=True):
            path = config.output_dir / f"{number:03d}-seed{seed}.png"
            info = pipeline.record(graph=row.graph, prompt=row.prompt, seed=seed, **own)
            save_picture(path, picture, info)
            small = tile(picture, count=len(rows) * config.num_images)
            found.append((number, seed, small, path))
    found = sorted(companions.gather(found), key=lambda one: one[:2])
    sheet = config.output_dir / "contact_sheet.png"
    if companions.index == 0:
        captions = [f"{rows[number].caption}\nseed {seed}" for number, seed, _, _ in found]
        tiles = [small for _, _, small, _ in found]
        rows_said = [{"row": row.caption, "prompt": row.prompt} for row in rows]
        save_picture(
            sheet, contact_sheet(tiles, captions, columns=config.num_images), {"rows": rows_said}
        )
    return [*(path for *_, path in found), sheet]


def _rows(config: SampleConfig, *, say: Callable[[str], None]) -> list[_Row]:
    given = given_graphs(config)
    if not given:
        prompt = config.prompt or ""
        return [_Row(prompt, None, prompt, config.trained.adapter is not None)]
    rows = []
    for one in given:
        if (remark := one.remark()) is not None:
            say(remark)
        prompt = prompts_for_graph(one.graph, "neutral") if config.prompt is None else config.prompt
        rows.append(_Row(_caption(one.graph), one.graph, prompt, True))
        if config.compare:
            rows.append(_Row(f"without graph: {prompt}", None, prompt, True))
            rows.append(_Row(f"base: {prompt}", None, prompt, False))
    return rows


def _caption(graph: SceneGraph) -> str:
    """Write the graph as text, or its triples where the words have no text form."""
    try:
        return graph.to_text()
    except SceneGraphError:
        return "; ".join(map(str, graph.triples()))
